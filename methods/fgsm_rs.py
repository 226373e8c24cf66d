"""FGSM-RS: Fast is better than free: Revisiting adversarial training (Wong, Rice and Kolter, ICLR 2020).

https://arxiv.org/abs/2001.03994
"""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob


@dataclass(frozen=True)
class FGSMRS(Method[OneNetwork]):
    """L = CE(z(x'), y), x' = one sign step up CE from a uniform start in the ball, projected onto it."""

    step_size: float = knob(1.25, "paper: 10/255 at eps 8/255; in units of eps", tune=(0.75, 1.0, 1.25))
    card = Card(
        name="fgsm_rs",
        label="FGSM-RS",
        title="Fast is better than free: Revisiting adversarial training",
        authors="Wong, Eric and Rice, Leslie and Kolter, J. Zico",
        venue="ICLR",
        year=2020,
        url="https://arxiv.org/abs/2001.03994",
        key="wong2020fast",
        code="https://github.com/locuslab/fast_adversarial",
        family="single step",
        forwards=5,
        differs=(
            "Crafts in eval mode, without input normalisation (the release: train mode, mean and deviation).",
            "No early stopping on training batches against catastrophic overfitting: the protocol selects.",
        ),
        notes=("own inner step",),
    )

    def __post_init__(self) -> None:
        if not 0 < self.step_size < inf:
            raise ValueError("step_size must be positive and finite")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on single-step adversarial images."""
        x_adv = step.single(batch.x, lambda x: ce_sum(nets.target(x), batch.y), step_size=self.step_size)
        return ce_mean(nets.target(x_adv), batch.y)
