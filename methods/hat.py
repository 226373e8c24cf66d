"""HAT: Reducing Excessive Margin to Achieve a Better Accuracy vs. Robustness Trade-off.

Rade and Moosavi-Dezfooli, ICLR 2022, https://openreview.net/forum?id=Azh9QBQ4tR7
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import Tensor

from advbench.benchmark.losses import ce_mean, kl_mean, kl_sum
from advbench.benchmark.method import Batch, Card, Method, Step, Task, Taught, knob


@dataclass(frozen=True)
class HAT(Method[Taught]):
    """L = CE(z(x), y) + beta KL(p(x) || p(x')) + gamma CE(z(x_h), argmax H(x')), x_h = x + h (x' − x), not clipped."""

    beta: float = knob(
        2.5, "release, CIFAR-10 ResNet-18, here for every data set (README: 3.5 with extra data)", tune=(1.0, 2.5, 6.0)
    )
    gamma: float = knob(0.5, "release, CIFAR-10 ResNet-18", tune=(0.25, 0.5, 1.0))
    h: float = knob(2.0, "release: how far beyond x' the helper examples lie, in perturbations")
    card = Card(
        name="hat",
        label="HAT",
        title="Reducing Excessive Margin to Achieve a Better Accuracy vs. Robustness Trade-off",
        authors="Rade, Rahul and Moosavi-Dezfooli, Seyed-Mohsen",
        venue="ICLR",
        year=2022,
        url="https://openreview.net/forum?id=Azh9QBQ4tR7",
        key="rade2022reducing",
        code="https://github.com/imrahulr/hat",
        family="regularised",
        forwards=31,
        differs=("SGD without Nesterov momentum under the protocol's schedule (the release: Nesterov, one-cycle).",),
    )
    requires: ClassVar[Mapping[str, str]] = {"helper": "standard"}

    def __post_init__(self) -> None:
        if not all(0 <= value < inf for value in (self.beta, self.gamma, self.h)):
            raise ValueError("beta, gamma and h must be 0 or more and finite")

    def build(self, task: Task) -> Taught:
        """Train one network with a frozen, standard-trained helper."""
        return Taught(task.network(), task.teacher("helper"))

    def loss(self, nets: Taught, batch: Batch, step: Step) -> Tensor:
        """Return the TRADES loss plus cross-entropy on helper examples, labelled by the helper."""
        x, y, _ = batch
        reference = step.predict(nets.target, x)
        x_adv = step.craft(x, lambda x_now: kl_sum(reference, nets.target(x_now)), start="gaussian")
        y_help = step.predict(nets.teacher, x_adv).argmax(dim=1)
        z, z_adv, z_help = nets.target(x), nets.target(x_adv), nets.target(x + self.h * (x_adv - x))
        return ce_mean(z, y) + self.beta * kl_mean(z, z_adv) + self.gamma * ce_mean(z_help, y_help)
