"""Perturbed and averaged weights, shared by methods: AWP (Wu et al. 2020), SWA, exponential averages of any method."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from advbench.benchmark.method import Method, N, OneNetwork, Step, Task, knob

Direction = list[tuple[nn.Parameter, Tensor]]


def frozen_copy(net: nn.Module) -> nn.Module:
    """Return a copy of `net` whose parameters take no gradient: the start of an average."""
    return copy.deepcopy(net).requires_grad_(requires_grad=False)


def matrices(net: nn.Module) -> list[nn.Parameter]:
    """Return the convolution and linear weights of `net`: what AWP perturbs (no biases, no batch norm)."""
    return [cast("nn.Parameter", m.weight) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


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


def joint_offsets(ascent: Direction, gamma: float) -> Direction:
    """Scale a direction d to v = gamma · ||w|| · d / (||d|| + 1e-20), all layers as one vector (MLCAT)."""
    length = torch.stack([w.detach().norm() for w, _ in ascent]).norm()
    scale = gamma * length / (torch.stack([d.norm() for _, d in ascent]).norm() + 1e-20)
    return [(w, scale * d) for w, d in ascent]


def added(first: Direction, second: Direction) -> Direction:
    """Return the sum of two directions of the same weights."""
    return [(w, a + b) for (w, a), (_, b) in zip(first, second, strict=True)]


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
def average_into(average: nn.Module, net: nn.Module, keep: float | Tensor, *, buffers: bool = True) -> None:
    """Set average ← keep·average + (1 − keep)·net, buffers too if wanted; integer buffers are copied.

    `keep` may be a tensor without dimensions on the networks' device: a decay that follows a step counter kept there
    costs the host no wait.
    """
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(net.parameters())
    if buffers:
        for own, other in zip(average.buffers(), net.buffers(), strict=True):
            if own.is_floating_point():
                ours.append(own)
                theirs.append(other.to(own.dtype))
            else:
                own.copy_(other)
    if isinstance(keep, Tensor):
        torch._foreach_sub_(ours, theirs)
        torch._foreach_mul_(ours, keep)
        torch._foreach_add_(ours, theirs)
    else:
        torch._foreach_lerp_(ours, theirs, 1.0 - keep)


def perturbed_step(
    step: Step,
    net: nn.Module,
    loss: Callable[[], Tensor],
    gamma: float,
    ascent: Callable[[], Tensor] | None = None,
) -> None:
    """Take the optimiser's step at weights w + v, v_l = gamma · ||w_l|| · g_l / ||g_l||, then subtract v (AWP).

    Args:
        step: of the batch.
        net: whose weights are perturbed.
        loss: what is descended, as a function of the weights that `net` then has.
        gamma: size of v relative to w, layer by layer; 0 leaves the weights where they are.
        ascent: what g is the gradient of; None: the loss. It leaves no trace in the statistics of `net`.
    """
    offsets: Direction = []
    if gamma:
        with kept_statistics(net):
            offsets = awp_offsets(gradient(net, (ascent or loss)()), gamma)
    with shifted(offsets):
        step.backward(loss())
        step.advance()


class Averaged(OneNetwork):
    """A trained target and a frozen running average of it, with the number of its updates so far."""

    count: Tensor

    def __init__(self, target: nn.Module) -> None:
        super().__init__(target)
        self.average = frozen_copy(target)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def absorb(self, keep: float | Tensor, *, buffers: bool = True) -> None:
        """Set average ← keep·average + (1 − keep)·target and count the update; see `average_into`."""
        average_into(self.average, self.target, keep, buffers=buffers)
        self.count += 1


@dataclass(frozen=True)
class WithAverage(Method[N]):
    """Any method with a running average of its network beside what it builds; `EMA` and `SWA` say what it averages."""

    def build(self, task: Task) -> N:
        """Put the average and its number of updates beside what the averaged method builds."""
        nets = super().build(task)  # type: ignore[safe-super]  # the averaged method follows in the order
        nets.register_buffer("count", torch.zeros((), dtype=torch.int64))
        nets.add_module("average", frozen_copy(super().deployed(nets)))
        return nets

    def absorb(self, nets: N, keep: Tensor, *, buffers: bool = True) -> None:
        """Set average ← keep·average + (1 − keep)·network and count the update; see `average_into`."""
        average_into(nets.get_submodule("average"), super().deployed(nets), keep, buffers=buffers)
        nets.get_buffer("count").add_(1)

    def deployed(self, nets: N) -> nn.Module:
        """Deploy the average once there is one."""
        return nets.get_submodule("average") if nets.get_buffer("count") else super().deployed(nets)


@dataclass(frozen=True)
class EMA(WithAverage[N]):
    """Any method with an exponential average deployed: `class TradesEMA(EMA[OneNetwork], TRADES)` and a card.

    w̄ ← d w̄ + (1 − d) w, batch-norm statistics too, after each step t = 0, 1, …, d = min(decay, (t+1)/(t+10)).
    """

    decay: float = knob(0.999, "SEAT's release")

    def __post_init__(self) -> None:
        """Refuse a decay that is none; checks of the averaged method follow."""
        if not 0 < self.decay < 1:
            raise ValueError("decay must lie between 0 and 1")
        checked = getattr(super(), "__post_init__", None)
        if checked is not None:
            checked()

    def after_step(self, nets: N, step: Step) -> None:
        """Average with a decay that rises from 1/10."""
        super().after_step(nets, step)
        t = nets.get_buffer("count").double()
        self.absorb(nets, ((t + 1) / (t + 10)).clamp(max=self.decay))

    def deployed(self, nets: N) -> nn.Module:
        """Deploy the average."""
        return nets.get_submodule("average")


@dataclass(frozen=True)
class SWA(WithAverage[N]):
    """Any method with the equal average of its last epochs deployed (Izmailov et al., UAI 2018), as `EMA` is added.

    Averages the weights after each epoch from `swa_delay` of training after the first drop on, and estimates batch
    norm's statistics anew for the average.
    """

    swa_delay: float = knob(
        0.025, "KD+SWA's release: epoch 55 of 200 after a drop at 50; fraction of training after the first drop"
    )

    def __post_init__(self) -> None:
        """Refuse a delay that is none; checks of the averaged method follow."""
        if not 0 <= self.swa_delay <= 1:
            raise ValueError("swa_delay must lie in [0, 1]")
        checked = getattr(super(), "__post_init__", None)
        if checked is not None:
            checked()

    def after_epoch(self, nets: N, step: Step) -> None:
        """Average the epoch and re-estimate batch norm, once it is time."""
        super().after_epoch(nets, step)
        if step.progress >= step.first_drop + self.swa_delay:
            n = nets.get_buffer("count").double()
            self.absorb(nets, n / (n + 1), buffers=False)
            step.refresh_bn(nets.get_submodule("average"))
