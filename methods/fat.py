"""FAT: Attacks Which Do Not Kill Training Make Adversarial Learning Stronger (Zhang et al., ICML 2020).

https://arxiv.org/abs/2002.11242
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob


@dataclass(frozen=True)
class FAT(Method[OneNetwork]):
    """L = CE(z(x'), y), x' from an attack that leaves an image alone tau steps after it is misclassified."""

    first: float = knob(5 / 12, "release: tau = 0 up to epoch 50 of 120, then 1")
    second: float = knob(3 / 4, "release: tau = 1 up to epoch 90 of 120, then 2")
    card = Card(
        name="fat",
        label="FAT",
        title="Attacks Which Do Not Kill Training Make Adversarial Learning Stronger",
        authors="Zhang, Jingfeng and Xu, Xilie and Han, Bo and Niu, Gang and Cui, Lizhen and Sugiyama, Masashi "
        "and Kankanhalli, Mohan",
        venue="ICML",
        year=2020,
        url="https://arxiv.org/abs/2002.11242",
        key="zhang2020attacks",
        code="https://github.com/zjfheart/Friendly-Adversarial-Training",
        family="adversarial training",
        forwards=23,
        differs=("Stopped images ride along; no 0.001 noise in each inner step (the budget has one random start).",),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.second <= 1:
            raise ValueError("0 <= first <= second <= 1 must hold")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on friendly adversarial images (paper, Algorithm 1)."""
        tau = (step.progress >= self.first) + (step.progress >= self.second)
        left, wrong = torch.full_like(batch.y, tau), torch.zeros_like(batch.y)

        def objective(x: Tensor) -> Tensor:
            logits = nets.target(x)
            wrong.copy_(logits.detach().argmax(dim=1) != batch.y)
            return ce_sum(logits, batch.y)

        def freeze(_x_adv: Tensor) -> Tensor:
            left.sub_(wrong)  # one of the tau steps is spent wherever the iterate is misclassified
            return left < 0

        return ce_mean(nets.target(step.craft(batch.x, objective, freeze=freeze)), batch.y)
