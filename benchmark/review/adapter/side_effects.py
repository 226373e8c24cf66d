"""Eyes on code while it runs: files, network and processes it touches, functions it replaces, global state it moves."""

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

import numpy as np
import torch

EVENTS = ("open", "os.", "socket.", "subprocess.", "shutil.", "urllib.", "ctypes.", "sqlite3.", "ftplib.", "http.")
_IMPORTING = ("<frozen importlib", "linecache.py", "tokenize.py", "inspect.py")
"""Files of frames below which opening a file is Python's own business."""
_heard: list[list[str]] = []
"""What is heard, for each `listening` that is open now; audit hooks cannot be taken away again."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _heard or not event.startswith(EVENTS):
        return
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (the only way to tell an import from a method's doing)
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in _IMPORTING):
            return
        frame = frame.f_back
    for heard in _heard:
        heard.append(f"{event} {str(arguments[0])[:80] if arguments else ''}".strip())


@cache
def _install() -> None:
    sys.addaudithook(_hook)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Give a list that fills with the files, sockets and processes that code inside touches."""
    _install()
    heard: list[str] = []
    _heard.append(heard)
    try:
        yield heard
    finally:
        _heard.remove(heard)


def _owned() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the namespaces that a method must leave alone."""
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(("advbench.benchmark.", "advbench.leaderboards.")) and module is not None
    ]
    for module in (*modules, torch, torch.nn, torch.nn.functional, torch.autograd):
        yield module.__name__, vars(module)
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield f"{module.__name__}.{name}", vars(value)
    for kind in (torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch.optim.SGD):
        yield f"{kind.__module__}.{kind.__name__}", vars(kind)


def fingerprint() -> dict[str, Any]:
    """Return every function and class of the house and of torch's core by its name."""
    return {
        f"{place}.{name}": value
        for place, names in _owned()
        for name, value in list(names.items())
        if callable(value) or isinstance(value, staticmethod | classmethod | property)
    }


def replaced(before: Mapping[str, Any]) -> list[str]:
    """Return the names of `fingerprint` that mean something else by now."""
    after = fingerprint()
    return sorted(name for name, value in before.items() if name in after and after[name] is not value)


def settings() -> dict[str, Any]:
    """Return the global state that belongs to the process and not to a method."""
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "Python's random state": random.getstate(),
        "NumPy's random state": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cuDNN": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
        "anomaly detection": torch.is_anomaly_enabled(),
    }
