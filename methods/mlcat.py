"""MLCAT: Understanding Robust Overfitting of Adversarial Training and Beyond (Yu et al., ICML 2022).

https://arxiv.org/abs/2206.08675. Two ways to keep every image's adversarial loss above a minimum: perturb the weights
up the losses below it (WP), or hold those losses at it (LS).
"""

from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_each, ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob
from advbench.benchmark.weights import Direction, added, gradient, joint_offsets, kept_statistics, shifted


@dataclass(frozen=True)
class MLCATWP(Method[OneNetwork]):
    """L = CE(z(x'), y) at weights w + v, ||v|| = gamma ||w||, v along a sum of gradients of mean l_i [l_i < threshold].

    Each gradient is taken at w + v, v being that of the sum so far.
    """

    threshold: float = knob(1.5, "release", tune=(0.5, 1.0, 1.5, 2.0))
    gamma: float = knob(
        0.01, "release: ||v|| / ||w||, all convolution and linear weights as one vector", tune=(0.005, 0.01, 0.02)
    )
    ascents: int = knob(10, "release")
    card = Card(
        name="mlcat",
        label="MLCAT-WP",
        title="Understanding Robust Overfitting of Adversarial Training and Beyond",
        authors="Yu, Chaojian and Han, Bo and Shen, Li and Yu, Jun and Gong, Chen and Gong, Mingming "
        "and Liu, Tongliang",
        venue="ICML",
        year=2022,
        url="https://arxiv.org/abs/2206.08675",
        key="yu2022understanding",
        code="https://github.com/ChaojianYu/Understanding-Robust-Overfitting",
        family="weight perturbation",
        forwards=53,
        differs=("Crafts in eval mode, without input normalisation (the release: train mode, mean and deviation).",),
    )

    def __post_init__(self) -> None:
        if not 0 < self.threshold < inf or not 0 < self.gamma < inf or self.ascents < 1:
            raise ValueError("threshold and gamma must be positive and finite, ascents 1 or more")

    def build(self, task: Task) -> OneNetwork:
        """Train one network; its perturbation needs no second one."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images at the weights as they are."""
        return ce_mean(nets.target(step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))), batch.y)

    def update(self, nets: OneNetwork, batch: Batch, step: Step) -> None:
        """Take the step at perturbed weights, then subtract the perturbation."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        total: Direction = []
        offsets: Direction = []
        with kept_statistics(nets.target):
            for _ in range(self.ascents):
                with shifted(offsets):
                    each = ce_each(nets.target(x_adv), batch.y)
                    ascent = gradient(nets.target, (each * (each < self.threshold)).mean())
                total = added(total, ascent) if total else ascent
                offsets = joint_offsets(total, self.gamma)
        with shifted(offsets):
            step.backward(ce_mean(nets.target(x_adv), batch.y))
            step.advance()


@dataclass(frozen=True)
class MLCATLS(Method[OneNetwork]):
    """L = mean max(l_i, threshold), l_i = CE(z(x'_i), y_i): images below the threshold give no gradient."""

    threshold: float = knob(1.5, "release", tune=(0.5, 1.0, 1.5, 2.0))
    detach_weight: bool = knob(False, "ours: True scales the gradient of l_i below the threshold by threshold / l_i")
    card = replace(
        MLCATWP.card,
        name="mlcat_ls",
        label="MLCAT-LS",
        family="reweighting",
        forwards=23,
        differs=(*MLCATWP.card.differs, "Written as a maximum: the release's l_i · (1.5 / l_i) can overflow."),
    )

    def __post_init__(self) -> None:
        if not 0 < self.threshold < inf:
            raise ValueError("threshold must be positive and finite")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the adversarial cross-entropy, held at the threshold from below."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        each = ce_each(nets.target(x_adv), batch.y)
        if not self.detach_weight:
            return torch.where(each < self.threshold, self.threshold, each).mean()
        weight = self.threshold / each.detach().clamp(min=1e-3)
        return (torch.where(each < self.threshold, weight, 1.0) * each).mean()
