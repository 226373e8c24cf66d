"""ARD: Adversarially Robust Distillation (Goldblum et al., AAAI 2020).

https://arxiv.org/abs/1905.09747
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean
from advbench.benchmark.method import Batch, Card, Method, Step, Task, Taught, knob


@dataclass(frozen=True)
class ARD(Method[Taught]):
    """L = alpha T² scale KL(p_T(x)^(1/T) || p(x')^(1/T)) + (1 − alpha) CE(z(x), y), x' = argmax CE(z(x'), y)."""

    alpha: float = knob(1.0, "release", tune=(0.5, 0.9, 1.0))
    temperature: float = knob(30.0, "release", tune=(5.0, 10.0, 30.0))
    scale: float = knob(0.1, "release at C = 10 (mean over images and classes); kept at every C (ours: C/10 times it)")
    card = Card(
        name="ard",
        label="ARD",
        title="Adversarially Robust Distillation",
        authors="Goldblum, Micah and Fowl, Liam and Feizi, Soheil and Goldstein, Tom",
        venue="AAAI",
        year=2020,
        url="https://arxiv.org/abs/1905.09747",
        key="goldblum2020adversarially",
        code="https://github.com/goldblum/AdversariallyRobustDistillation",
        family="distillation",
        forwards=25,
        differs=(
            "The teacher is TRADES with the protocol's own network (published: WRN-34-10 into smaller students).",
            "Crafts in eval mode (the release: train mode).",
            "At alpha = 1 the clean forward, which then only moves batch-norm statistics, takes no gradient.",
            "The release's mean over classes, 1/C, is held at 1/10 at every C.",
        ),
        notes=("self-sized distillation",),
    )
    requires: ClassVar[Mapping[str, str]] = {"robust": "trades"}

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or not 0 < self.temperature < inf or not 0 < self.scale < inf:
            raise ValueError("alpha must lie in [0, 1], temperature and scale must be positive and finite")

    def build(self, task: Task) -> Taught:
        """Train one network from a frozen robust one."""
        return Taught(task.network(), task.teacher("robust"))

    def loss(self, nets: Taught, batch: Batch, step: Step) -> Tensor:
        """Return the divergence of adversarial outputs from the teacher's clean ones, and clean cross-entropy."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        reference = step.predict(nets.teacher, batch.x)
        z_adv = nets.target(x_adv)
        with torch.set_grad_enabled(self.alpha < 1):
            z = nets.target(batch.x)
        soft = self.temperature**2 * self.scale * kl_mean(reference, z_adv, self.temperature)
        return self.alpha * soft + (1 - self.alpha) * ce_mean(z, batch.y)
