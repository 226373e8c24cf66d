"""Global state that an adapter must leave alone: what it may not move, replace or override while it runs."""

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


class SideEffectError(RuntimeError):
    """An adapter changed what is not its own; the message is one line that names it."""


Code = list[tuple[Any, dict[str, Any]]]
"""Modules and classes, each with what its names mean."""


def code() -> Code:
    """Return what every name of the benchmark and of torch's core means now."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0).step()  # with its first optimiser torch wraps its own
    owners: list[Any] = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(("advbench.benchmark.", "advbench.leaderboards.")) and module is not None
    ]
    owners += [kind for module in owners for kind in vars(module).values() if isinstance(kind, type)]
    owners += [torch, torch.nn, torch.nn.functional, torch.autograd]
    owners += [torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch.optim.SGD]
    return [(owner, dict(vars(owner))) for owner in {id(owner): owner for owner in owners}.values()]


def replaced(before: Code) -> list[str]:
    """Return the names of functions and classes that mean something else by now."""
    return sorted(
        f"{getattr(owner, '__module__', '')}.{owner.__name__}.{name}".lstrip(".")
        for owner, names in before
        for name, value in names.items()
        if vars(owner).get(name, value) is not value
        and (callable(value) or isinstance(value, staticmethod | classmethod | property))
    )


def _numpy_state() -> tuple[bytes, int]:
    state: Any = np.random.get_state()  # noqa: NPY002 (the global state is what is watched)
    return state[1].tobytes(), state[2]


def _cudnn() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.benchmark, cudnn.allow_tf32


def _set_cudnn(values: tuple[bool, bool, bool]) -> None:
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.allow_tf32 = values


_DRAW, _OURS = "draw from step.generator", "the protocol and the machine decide it"
_SETTINGS: Mapping[str, tuple[str, Callable[[], Any], Callable[[Any], object]]] = {
    "torch's random state": (_DRAW, lambda: torch.get_rng_state().numpy().tobytes(), lambda _: None),
    "Python's random state": (_DRAW, random.getstate, random.setstate),
    "NumPy's random state": (_DRAW, _numpy_state, lambda _: None),
    "default dtype": (_OURS, torch.get_default_dtype, torch.set_default_dtype),
    "gradient mode": (_OURS, torch.is_grad_enabled, torch.set_grad_enabled),
    "threads": (_OURS, torch.get_num_threads, torch.set_num_threads),
    "matmul precision": (_OURS, torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "deterministic algorithms": (
        _OURS,
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "cuDNN": (_OURS, _cudnn, _set_cudnn),
    "anomaly detection": (_OURS, torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
}
"""What belongs to the process and not to a method: a hint, how it is read, how it is set back."""


@contextmanager
def settings_kept() -> Iterator[None]:
    """Refuse code inside that moves a setting of the process, and set it back.

    Raises:
        SideEffectError: naming the first that was moved.
    """
    before = {name: read() for name, (_, read, _) in _SETTINGS.items()}
    yield
    moved = [name for name, (_, read, _) in _SETTINGS.items() if read() != before[name]]
    for name in moved:
        _SETTINGS[name][2](before[name])
    if moved:
        raise SideEffectError(f"the adapter moves {moved[0]}: {_SETTINGS[moved[0]][0]}")


def check_code(before: Code, nets: nn.Module, adapter: str) -> None:
    """Refuse replaced code, and networks whose modes, forward or state are not torch's or the benchmark's.

    Args:
        before: what `code` returned before the adapter ran.
        nets: everything that the adapter built.
        adapter: the name of its Python module.

    Raises:
        SideEffectError: naming what was replaced or overridden.
    """
    changed = replaced(before)
    if changed:
        raise SideEffectError(f"the adapter replaces {changed[0]}: never assign to what is not yours")
    for name, module in nets.named_modules():
        for word in ("train", "eval", "forward", "state_dict", "__call__"):
            own = word in vars(module) or getattr(getattr(type(module), word), "__module__", "") == adapter
            if own:
                place = name or "the nets"
                raise SideEffectError(f"the adapter overrides {word} of {place}: networks come from task.network()")
