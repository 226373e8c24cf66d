"""N-FGSM: Make Some Noise: Reliable and Efficient Single-Step Adversarial Training (de Jorge et al., NeurIPS 2022).

https://openreview.net/forum?id=NENo__bExYu
"""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob


@dataclass(frozen=True)
class NFGSM(Method[OneNetwork]):
    """L = CE(z(x'), y), x' = one sign step up CE from x + U(−noise eps, noise eps), clipped to [0,1] but to no ball."""

    noise: float = knob(2.0, "paper; release: in units of eps", tune=(1.0, 2.0, 3.0))
    step_size: float = knob(1.0, "paper; release: in units of eps", tune=(0.75, 1.0, 1.25))
    card = Card(
        name="n_fgsm",
        label="N-FGSM",
        title="Make Some Noise: Reliable and Efficient Single-Step Adversarial Training",
        authors="de Jorge, Pau and Bibi, Adel and Volpi, Riccardo and Sanyal, Amartya and Torr, Philip "
        "and Rogez, Grégory and Dokania, Puneet K.",
        venue="NeurIPS",
        year=2022,
        url="https://openreview.net/forum?id=NENo__bExYu",
        key="dejorge2022make",
        code="https://github.com/pdejorge/N-FGSM",
        family="single step",
        forwards=5,
        differs=("Crafts in eval mode, without input normalisation (the release: train mode, mean and deviation).",),
        notes=("own inner step",),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.noise < inf or not 0 < self.step_size < inf:
            raise ValueError("noise must be 0 or more, step_size positive, both finite")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on noisy single-step adversarial images."""
        x_adv = step.single(
            batch.x,
            lambda x: ce_sum(nets.target(x), batch.y),
            noise=self.noise,
            step_size=self.step_size,
            project=False,
        )
        return ce_mean(nets.target(x_adv), batch.y)
