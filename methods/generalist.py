"""Generalist: Decoupling Natural and Robust Generalization (Wang and Wang, CVPR 2023).

https://arxiv.org/abs/2303.13813
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob
from advbench.benchmark.weights import average_into, frozen_copy


class Learners(OneNetwork):
    """A robust learner (`target`) and a natural one, the average of each, and the mixed average that is deployed."""

    steps: Tensor

    def __init__(self, target: nn.Module) -> None:
        super().__init__(target)
        self.natural = copy.deepcopy(target)
        self.robust_average, self.natural_average, self.mixed = (frozen_copy(target) for _ in range(3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


@dataclass(frozen=True)
class Generalist(Method[Learners]):
    """L = CE(z_r(x'), y) + CE(z_n(x), y), x' = argmax CE(z_r(x'), y): two learners and their mixed average.

    After step t = 0, 1, …, with d = min(decay, (t+1)/(t+10)): w̄ ← d w̄ + (1 − d) w of each learner, and
    w̄_mixed ← d w̄_mixed + (1 − d) (b w̄_r + (1 − b) w̄_n). In every `every`-th epoch from `start` on both learners are set
    to w̄_mixed then.
    """

    decay: float = knob(0.999, "release")
    last: float = knob(
        0.4, "release: b is 1 up to two thirds of training, then falls linearly to it", tune=(0.2, 0.4, 0.6)
    )
    start: float = knob(75 / 120, "release: epoch 75 of 120, counted from 1")
    every: int = knob(5, "release: epochs, not rescaled to the length of training")
    card = Card(
        name="generalist",
        label="Generalist",
        title="Generalist: Decoupling Natural and Robust Generalization",
        authors="Wang, Hongjun and Wang, Yisen",
        venue="CVPR",
        year=2023,
        url="https://arxiv.org/abs/2303.13813",
        key="wang2023generalist",
        code="https://github.com/PKU-ML/Generalist",
        family="averaging",
        blends=True,
        forwards=26,
        differs=("Both learners have the protocol's recipe (released for ResNet-18: 0.01 and 3.5e-3, 0.1 and 5e-4).",),
        notes=("schedule differs from the method's own",),
    )

    def __post_init__(self) -> None:
        if not (0 < self.decay < 1 and 0 <= self.last <= 1 and 0 <= self.start <= 1 and self.every >= 1):
            raise ValueError("decay must lie in (0, 1), last and start in [0, 1], every must be 1 or more")

    def build(self, task: Task) -> Learners:
        """Train two networks from the same initial weights."""
        return Learners(task.network())

    def loss(self, nets: Learners, batch: Batch, step: Step) -> Tensor:
        """Return the sum of both learners' losses."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        return ce_mean(nets.target(x_adv), batch.y) + ce_mean(nets.natural(batch.x), batch.y)

    def after_step(self, nets: Learners, step: Step) -> None:
        """Average each learner, mix the averages, and set the learners to the mixture where that is due."""
        t = nets.steps.double()
        d = ((t + 1) / (t + 10)).clamp(max=self.decay)
        average_into(nets.robust_average, nets.target, d)
        average_into(nets.natural_average, nets.natural, d)
        b = 1 - (1 - self.last) * max(0.0, 3 * step.end_of_epoch - 2)
        natural = (1 - d) * (1 - b)
        average_into(nets.mixed, nets.robust_average, d / (1 - natural))
        average_into(nets.mixed, nets.natural_average, 1 - natural)
        nets.steps.add_(1)
        if step.end_of_epoch >= self.start and (step.epoch + 1) % self.every == 0:
            step.blend(nets.target, nets.mixed)
            step.blend(nets.natural, nets.mixed)

    def deployed(self, nets: Learners) -> nn.Module:
        """Deploy the mixed average."""
        return nets.mixed
