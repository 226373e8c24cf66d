"""The one place that imports torchvision, lazily: its wheel from PyPI cannot be imported beside a CPU-only torch.

There its compiled operators do not load, and registering the shapes of two of them fails with "operator
torchvision::nms does not exist" although nothing here calls them. Their signatures are then defined without a body.
"""

import importlib
import sys
from functools import cache
from types import ModuleType

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


@cache
def _fragment() -> torch.library.Library:
    """Define the missing signatures; cached because they vanish with the returned object."""
    fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch.library
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            fragment.define(name + _SIGNATURE)  # type: ignore[no-untyped-call]  # torch.library
    return fragment


def module(name: str = "torchvision") -> ModuleType:
    """Import torchvision or one of its modules ("torchvision.datasets").

    A working installation is imported as it is. The signatures are defined only after it has failed, because a library
    that loads would define them a second time.

    Raises:
        ImportError: if torchvision is not installed, or does not fit the installed torch.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if not any(f"torchvision::{operator}" in str(error) for operator in _OPERATORS):
            raise ImportError(f"torchvision does not fit torch {torch.__version__}: {error}") from error
    _fragment()
    for imported in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
        del sys.modules[imported]  # half-imported modules would be found instead of imported again
    return importlib.import_module(name)
