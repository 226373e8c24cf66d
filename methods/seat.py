"""SEAT: Self-Ensemble Adversarial Training for Improved Robustness (Wang and Wang, ICLR 2022).

https://openreview.net/forum?id=oU3aTsmeRQV
"""

from dataclasses import dataclass

from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, Step, Task, knob
from advbench.benchmark.weights import Averaged


@dataclass(frozen=True)
class SEAT(Method[Averaged]):
    """L = CE(z(x'), y); deployed: w̄ ← d w̄ + (1 − d) w after each step t = 0, 1, …, d = min(decay, (t+1)/(t+10))."""

    decay: float = knob(0.999, "release")
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

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError("decay must lie between 0 and 1")

    def build(self, task: Task) -> Averaged:
        """Train one network and average it, batch-norm statistics included."""
        return Averaged(task.network())

    def loss(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images, crafted against the target."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        return ce_mean(nets.target(x_adv), batch.y)

    def after_step(self, nets: Averaged, step: Step) -> None:  # noqa: ARG002 (nothing to ask of the step)
        """Average with a decay that rises from 1/10."""
        t = nets.count.double()
        nets.absorb(((t + 1) / (t + 10)).clamp(max=self.decay))

    def deployed(self, nets: Averaged) -> nn.Module:
        """Deploy the average."""
        return nets.average
