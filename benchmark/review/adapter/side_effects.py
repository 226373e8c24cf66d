"""Functions that code replaces and global state that it moves while it runs."""

import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def functions() -> dict[str, Any]:
    """Return every function and class of the benchmark and of torch's core by its name."""
    owners: list[Any] = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(("advbench.benchmark.", "advbench.leaderboards.")) and module is not None
    ]
    owners += [kind for module in owners for kind in vars(module).values() if isinstance(kind, type)]
    owners += [torch, torch.nn, torch.nn.functional, torch.autograd]
    owners += [torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch.optim.SGD]
    return {
        f"{getattr(owner, '__module__', '')}.{owner.__name__}.{name}".lstrip("."): value
        for owner in owners
        for name, value in list(vars(owner).items())
        if callable(value) or isinstance(value, staticmethod | classmethod | property)
    }


def replaced(before: Mapping[str, Any]) -> list[str]:
    """Return the names of `functions` that mean something else by now."""
    after = functions()
    return sorted(name for name, value in before.items() if name in after and after[name] is not value)


def settings() -> dict[str, Any]:
    """Return the global state that belongs to the process and not to a method."""
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "Python's random state": random.getstate(),
        "NumPy's random state": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002 (global state)
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cuDNN": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
        "anomaly detection": torch.is_anomaly_enabled(),
    }
