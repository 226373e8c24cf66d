"""SEAT: Self-Ensemble Adversarial Training for Improved Robustness (Wang and Wang, ICLR 2022).

https://openreview.net/forum?id=oU3aTsmeRQV
"""

from dataclasses import dataclass

from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob
from advbench.benchmark.weights import EMA


@dataclass(frozen=True)
class Individual(Method[OneNetwork]):
    """The network whose steps SEAT averages: L = CE(z(x'), y), x' = argmax CE(z(x'), y)."""

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images, crafted against the target."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        return ce_mean(nets.target(x_adv), batch.y)


@dataclass(frozen=True)
class SEAT(EMA[OneNetwork], Individual):
    """L = CE(z(x'), y); deployed: w̄ ← d w̄ + (1 − d) w after each step t = 0, 1, …, d = min(decay, (t+1)/(t+10))."""

    decay: float = knob(0.999, "release", tune=(0.99, 0.995, 0.999))
    card = Card(
        name="seat",
        label="SEAT",
        title="Self-Ensemble Adversarial Training for Improved Robustness",
        authors="Wang, Hongjun and Wang, Yisen",
        venue="ICLR",
        year=2022,
        url="https://openreview.net/forum?id=oU3aTsmeRQV",
        key="wang2022selfensemble",
        code="https://github.com/whj363636/Self-Ensemble-Adversarial-Training",
        family="averaging",
        forwards=23,
        differs=("Batch norm's batch counter, which nothing reads, is copied; the release averages and truncates it.",),
        notes=("schedule differs from the method's own",),
    )
