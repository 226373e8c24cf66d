"""AdaAD: Boosting Accuracy and Robustness of Student Models via Adaptive Adversarial Distillation.

Huang et al., CVPR 2023.
https://openaccess.thecvf.com/content/CVPR2023/html/Huang_Boosting_Accuracy_and_Robustness_of_Student_Models_via_Adaptive_Adversarial_CVPR_2023_paper.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from advbench.benchmark.losses import kl_mean, kl_sum
from advbench.benchmark.method import Batch, Card, Method, Step, Task, Taught, knob


@dataclass(frozen=True)
class AdaAD(Method[Taught]):
    """L = scale C/10 (alpha KL(p_T(x') || p(x')) + (1 − alpha) KL(p_T(x) || p(x))), x' = argmax KL(p_T(x') || p(x')).

    The attack differentiates through student and teacher alike.
    """

    alpha: float = knob(
        1.0, "release; the paper's value per data set is not in the release; paper not consulted", tune=(0.5, 0.75, 1.0)
    )
    scale: float = knob(
        0.1, "release at C = 10 (mean over images and classes); times C/10: its 1 at C = 100", tune=(0.03, 0.1, 0.3)
    )
    card = Card(
        name="adaad",
        label="AdaAD",
        title="Boosting Accuracy and Robustness of Student Models via Adaptive Adversarial Distillation",
        authors="Huang, Bo and Chen, Mingyang and Wang, Yi and Lu, Junda and Cheng, Minhao and Wang, Wei",
        venue="CVPR",
        year=2023,
        url="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Huang_Boosting_Accuracy_and_Robustness_of_Student_Models_via_Adaptive_Adversarial_CVPR_2023_paper.html",
        key="huang2023boosting",
        code="https://github.com/boyellow/AdaAD",
        family="distillation",
        attacks=2,
        forwards=45,
        differs=(
            "The teacher is TRADES with the protocol's own network (published: WRN-34-10 and larger).",
            "At alpha = 1 the clean forward, which then only moves batch-norm statistics, takes no gradient.",
            "The release takes a mean over classes at C = 10, a sum at C = 100: C/100 an image, elsewhere too (ours).",
        ),
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
        """Return the divergences of the target from its teacher on adversarial and on clean images."""
        x_adv = step.craft(batch.x, lambda x: kl_sum(nets.teacher(x), nets.target(x)), start="gaussian")
        with torch.set_grad_enabled(self.alpha < 1):
            z = nets.target(batch.x)
        loss = self.alpha * kl_mean(step.predict(nets.teacher, x_adv), nets.target(x_adv))
        if self.alpha < 1:
            loss = loss + (1 - self.alpha) * kl_mean(step.predict(nets.teacher, batch.x), z)
        strength: float = self.scale * z.shape[1] / 10
        return strength * loss
