"""KD+SWA: Robust Overfitting May Be Mitigated by Properly Learned Smoothening (Chen et al., ICLR 2021).

https://openreview.net/forum?id=qZzy5urZw9
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum, softmax
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob
from advbench.benchmark.weights import SWA


class Smoothed(OneNetwork):
    """A target and two frozen teachers."""

    def __init__(self, target: nn.Module, standard: nn.Module, robust: nn.Module) -> None:
        super().__init__(target)
        self.standard = standard
        self.robust = robust


@dataclass(frozen=True)
class SelfDistilled(Method[Smoothed]):
    """The network whose epochs KD+SWA averages: adversarial training with two teachers of its own architecture."""

    ce: float = knob(0.3, "release", tune=(0.1, 0.3, 0.5))
    kd_standard: float = knob(0.1, "release")
    kd_robust: float = knob(0.6, "release")
    temperature: float = knob(2.0, "release")
    requires: ClassVar[Mapping[str, str]] = {"standard": "standard", "robust": "pgd_at"}

    def __post_init__(self) -> None:
        weights = (self.ce, self.kd_standard, self.kd_robust)
        if not all(0 <= weight < inf for weight in weights) or not 0 < self.temperature < inf:
            raise ValueError("ce, kd_standard and kd_robust must be 0 or more, temperature positive, all finite")

    def build(self, task: Task) -> Smoothed:
        """Train one network from two frozen ones of its own architecture."""
        return Smoothed(task.network(), task.teacher("standard"), task.teacher("robust"))

    def loss(self, nets: Smoothed, batch: Batch, step: Step) -> Tensor:
        """Return cross-entropy and both distillation terms, all on adversarial images."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        logits = nets.target(x_adv)
        loss = self.ce * ce_mean(logits, batch.y)
        for weight, teacher in ((self.kd_standard, nets.standard), (self.kd_robust, nets.robust)):
            soft = softmax(step.predict(teacher, x_adv) / self.temperature)
            loss = loss + weight * self.temperature**2 * ce_mean(logits / self.temperature, soft)
        return loss


@dataclass(frozen=True)
class KDSWA(SWA[Smoothed], SelfDistilled):
    """L = ce CE(z(x'), y) + kd_standard KD(T_1(x')) + kd_robust KD(T_2(x')); the stochastic weight average is deployed.

    KD(t) = T² CE(softmax(t/T), softmax(z(x')/T)), mean over images; x' = argmax CE(z(x'), y).
    """

    swa_delay: float = knob(
        0.025, "release: epoch 55 of 200 after a drop at 50; fraction of training after the first drop"
    )
    card = Card(
        name="kd_swa",
        label="KD+SWA",
        title="Robust Overfitting may be mitigated by properly learned smoothening",
        authors="Chen, Tianlong and Zhang, Zhenyu and Liu, Sijia and Chang, Shiyu and Wang, Zhangyang",
        venue="ICLR",
        year=2021,
        url="https://openreview.net/forum?id=qZzy5urZw9",
        key="chen2021robust",
        code="https://github.com/VITA-Group/Alleviate-Robust-Overfitting",
        family="averaging",
        forwards=(25, 26),
        differs=(
            "Crafts in eval mode (the release: train mode).",
            "SWA starts 0.025 of training after the protocol's first drop; under one-cycle at 0.525.",
            "Selection by validation PGD-10 for the release's PGD-20.",
        ),
    )
