"""ReBAT: Balance, Imbalance, and Rebalance (Wang, Li, Yang, Lin and Wang, NeurIPS 2023).

https://arxiv.org/abs/2310.19360
"""

from dataclasses import dataclass
from math import inf

from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean
from advbench.benchmark.method import Batch, Card, Method, Step, Task, knob
from advbench.benchmark.weights import Averaged


@dataclass(frozen=True)
class ReBAT(Method[Averaged]):
    """L = CE(z(x'), y) + beta KL(p̄(x') || p(x')), x' = argmax CE(z(x'), y); p̄ of the averaged network, deployed.

    w̄ ← d w̄ + (1 − d) w and the divergence begin `delay` of training after the first drop; until then w̄ = w.
    """

    beta: float = knob(1.0, "release")
    decay: float = knob(0.999, "release")
    delay: float = knob(5 / 200, "release: epoch 105 of 200 after a drop at 100")
    card = Card(
        name="rebat",
        label="ReBAT",
        title="Balance, Imbalance, and Rebalance: Understanding Robust Overfitting from a Minimax Game Perspective",
        authors="Wang, Yifei and Li, Liangchen and Yang, Jiansheng and Lin, Zhouchen and Wang, Yisen",
        venue="NeurIPS",
        year=2023,
        url="https://arxiv.org/abs/2310.19360",
        key="wang2023balance",
        code="https://github.com/PKU-ML/ReBAT",
        family="averaging",
        forwards=(23, 24),
        differs=(
            "The learning rate is the protocol's; the release divides it by 1.5 at each drop, a part of the method.",
            "Crafts in eval mode (the release: train mode).",
            "No forward of x after each step to move batch-norm statistics.",
        ),
        notes=("schedule differs from the method's own",),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.beta < inf:
            raise ValueError("beta must be 0 or more and finite")
        if not all(0 <= value <= 1 for value in (self.decay, self.delay)):
            raise ValueError("decay and delay must lie in [0, 1]")

    def build(self, task: Task) -> Averaged:
        """Train one network and average it."""
        return Averaged(task.network())

    def begun(self, step: Step) -> bool:
        """Whether the average is one by now."""
        return step.progress >= step.first_drop + self.delay

    def loss(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images, later also their divergence from the average's outputs."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        z_adv = nets.target(x_adv)
        loss = ce_mean(z_adv, batch.y)
        if self.begun(step):
            loss = loss + self.beta * kl_mean(step.predict(nets.average, x_adv), z_adv)
        return loss

    def after_step(self, nets: Averaged, step: Step) -> None:
        """Average weights and statistics, or copy them before it is time."""
        nets.absorb(self.decay if self.begun(step) else 0.0)

    def deployed(self, nets: Averaged) -> nn.Module:
        """Deploy the average."""
        return nets.average
