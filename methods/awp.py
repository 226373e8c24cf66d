"""AWP: Adversarial Weight Perturbation Helps Robust Generalization (Wu, Xia and Wang, NeurIPS 2020).

https://arxiv.org/abs/2004.05884. The released proxy network and its learning rate cancel: the gradients of the target
itself, rescaled layer by layer, give the same perturbation.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean, kl_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Recipe, Step, Task, knob
from advbench.benchmark.weights import perturbed_step


@dataclass(frozen=True)
class AWP(Method[OneNetwork]):
    """Descend a loss at weights that were first moved up the same loss; subclasses say which."""

    gamma: float
    warmup: float

    def __post_init__(self) -> None:
        if not 0 < self.gamma < inf or not 0 <= self.warmup <= 1:
            raise ValueError("gamma must be positive and finite, warmup in [0, 1]")

    def build(self, task: Task) -> OneNetwork:
        """Train one network; its perturbation needs no second one."""
        return OneNetwork(task.network())

    @abstractmethod
    def crafted(self, nets: OneNetwork, batch: Batch, step: Step) -> Callable[[], Tensor]:
        """Craft x' and return the loss on it as a function of the weights that the target then has."""

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the loss at the weights as they are."""
        return self.crafted(nets, batch, step)()

    def update(self, nets: OneNetwork, batch: Batch, step: Step) -> None:
        """Take the step at weights w + v, v_l = gamma ||w_l|| g_l / ||g_l||, then subtract v."""
        loss = self.crafted(nets, batch, step)
        perturbed_step(step, nets.target, loss, self.gamma if step.progress >= self.warmup else 0.0)


@dataclass(frozen=True)
class ATAWP(AWP):
    """L = CE(z(x'), y) at perturbed weights, x' = argmax CE(z(x'), y)."""

    gamma: float = knob(0.01, "paper; release (AT_AWP)", tune=(0.002, 0.005, 0.01, 0.02))
    warmup: float = knob(0.0, "release: none; fraction of training without perturbation")
    release_bn: bool = knob(False, "ours: the release's unused clean forward only moves batch-norm statistics")
    card = Card(
        name="at_awp",
        label="AT-AWP",
        title="Adversarial Weight Perturbation Helps Robust Generalization",
        authors="Wu, Dongxian and Xia, Shu-Tao and Wang, Yisen",
        venue="NeurIPS",
        year=2020,
        url="https://arxiv.org/abs/2004.05884",
        key="wu2020adversarial",
        code="https://github.com/csdongxian/AWP",
        family="weight perturbation",
        forwards=26,
        recipe=Recipe(lr=0.1, weight_decay=5e-4, epochs=200, drops=(100, 150)),
        differs=("Crafts in eval mode, unnormalised; no forward of x after each step, which release_bn adds.",),
    )

    def crafted(self, nets: OneNetwork, batch: Batch, step: Step) -> Callable[[], Tensor]:
        """Return the cross-entropy on adversarial images."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        return lambda: ce_mean(nets.target(x_adv), batch.y)

    def update(self, nets: OneNetwork, batch: Batch, step: Step) -> None:
        """Add the release's forward of clean images, at the weights without perturbation, if it is wanted."""
        super().update(nets, batch, step)
        if self.release_bn:
            with torch.no_grad():
                nets.target(batch.x)


@dataclass(frozen=True)
class TRADESAWP(AWP):
    """L = CE(z(x), y) + beta KL(p(x) || p(x')) at perturbed weights, x' = argmax KL(p(x) || p(x'))."""

    gamma: float = knob(0.005, "paper; release (trades_AWP)", tune=(0.002, 0.005, 0.01, 0.02))
    warmup: float = knob(9 / 200, "release: epoch 10 of 200, counted from 1; fraction of training without perturbation")
    beta: float = knob(6.0, "release", tune=(1.0, 3.0, 6.0, 9.0))
    card = replace(
        ATAWP.card,
        name="trades_awp",
        label="TRADES-AWP",
        forwards=(27, 33),
        differs=("Two train-mode forwards (x', x) for the release's three (x', x, x): a third only moves statistics.",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < inf:
            raise ValueError("beta must be 0 or more and finite")

    def crafted(self, nets: OneNetwork, batch: Batch, step: Step) -> Callable[[], Tensor]:
        """Return the TRADES loss."""
        reference = step.predict(nets.target, batch.x)
        x_adv = step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x)), start="gaussian")

        def loss() -> Tensor:
            z_adv, z = nets.target(x_adv), nets.target(batch.x)
            return ce_mean(z, batch.y) + self.beta * kl_mean(z, z_adv)

        return loss
