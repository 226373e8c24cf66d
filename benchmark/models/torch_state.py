"""States of torch and of networks that are changed for a while and left as they were found."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def isolated_rng(device: torch.device | str = "cpu") -> Iterator[None]:
    """Leave torch's global random state, of the CPU and of the device, as it was found."""
    place = torch.device(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        yield


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put every module of `net` in eval mode inside and restore each one's own mode afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    for module, _ in modes:  # not net.eval(), which a module can override
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
