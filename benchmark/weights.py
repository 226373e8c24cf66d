"""Perturbed and averaged weights, shared by methods: AWP (Wu et al. 2020), exponential averages, SWA."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

Direction = list[tuple[nn.Parameter, Tensor]]


def frozen_copy(net: nn.Module) -> nn.Module:
    """Return a copy of `net` whose parameters take no gradient: the start of an average."""
    return copy.deepcopy(net).requires_grad_(requires_grad=False)


def matrices(net: nn.Module) -> list[nn.Parameter]:
    """Return the convolution and linear weights of `net`: what AWP perturbs (no biases, no batch norm)."""
    return [module.weight for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@contextmanager
def kept_statistics(net: nn.Module) -> Iterator[None]:
    """Restore the batch-norm buffers of `net` afterwards: forwards inside leave no trace."""
    buffers = list(net.buffers())
    saved = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(buffers, saved, strict=True):
                buffer.copy_(old)


def gradient(net: nn.Module, loss: Tensor) -> Direction:
    """Return the gradients of a scalar loss with respect to `matrices(net)`; nothing is accumulated."""
    weights = matrices(net)
    return list(zip(weights, torch.autograd.grad(loss, weights), strict=True))


def awp_offsets(ascent: Direction, gamma: float) -> Direction:
    """Scale an ascent direction g to v_l = gamma · ||w_l|| · g_l / (||g_l|| + 1e-20), layer by layer (AWP, eq. 10)."""
    return [(w, (gamma * w.detach().norm() / (g.norm() + 1e-20)) * g) for w, g in ascent]


@contextmanager
def shifted(offsets: Direction) -> Iterator[None]:
    """Hold the weights at w + v inside; afterwards subtract v from whatever they have become."""
    with torch.no_grad():
        for w, v in offsets:
            w.add_(v)
    try:
        yield
    finally:
        with torch.no_grad():
            for w, v in offsets:
                w.sub_(v)


@torch.no_grad()
def average_into(average: nn.Module, net: nn.Module, keep: float, *, buffers: bool = True) -> None:
    """Set average ← keep·average + (1 − keep)·net, buffers too if wanted; integer buffers are copied."""
    theirs, ours = list(net.parameters()), list(average.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - keep)
    if not buffers:
        return
    for own, other in zip(average.buffers(), net.buffers(), strict=True):
        if own.is_floating_point():
            own.lerp_(cast("Tensor", other.to(own.dtype)), 1.0 - keep)
        else:
            own.copy_(other)
