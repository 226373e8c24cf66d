"""RSLAD: Revisiting Adversarial Robustness Distillation: Robust Soft Labels Make Student Better (Zi et al., ICCV 2021).

https://arxiv.org/abs/2108.07969
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import Tensor

from advbench.benchmark.losses import kl_mean, kl_sum
from advbench.benchmark.method import Batch, Card, Method, Step, Task, Taught, knob


@dataclass(frozen=True)
class RSLAD(Method[Taught]):
    """L = scale (alpha KL(p_T(x) || p(x')) + (1 − alpha) KL(p_T(x) || p(x))), x' = argmax KL(p_T(x) || p(x'))."""

    alpha: float = knob(5 / 6, "paper; release")
    scale: float = knob(0.1, "release: mean over images and 10 classes; times 10 at C = 100, so 0.1 at every C")
    card = Card(
        name="rslad",
        label="RSLAD",
        title="Revisiting Adversarial Robustness Distillation: Robust Soft Labels Make Student Better",
        authors="Zi, Bojia and Zhao, Shihao and Ma, Xingjun and Jiang, Yu-Gang",
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2108.07969",
        key="zi2021revisiting",
        code="https://github.com/zibojia/RSLAD",
        family="distillation",
        forwards=27,
        differs=("The teacher is TRADES with the protocol's own network (published: WRN-34-10 and WRN-70-16).",),
        notes=("self-sized distillation",),
    )
    requires: ClassVar[Mapping[str, str]] = {"robust": "trades"}

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or not 0 < self.scale < inf:
            raise ValueError("alpha must lie in [0, 1], scale must be positive and finite")

    def build(self, task: Task) -> Taught:
        """Train one network from a frozen robust one."""
        return Taught(task.network(), task.teacher("robust"))

    def loss(self, nets: Taught, batch: Batch, step: Step) -> Tensor:
        """Return the divergences of adversarial and clean outputs from the teacher's clean ones; no hard label."""
        reference = step.predict(nets.teacher, batch.x)
        x_adv = step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x)), start="gaussian")
        z_adv, z = nets.target(x_adv), nets.target(batch.x)
        return self.scale * (self.alpha * kl_mean(reference, z_adv) + (1 - self.alpha) * kl_mean(reference, z))
