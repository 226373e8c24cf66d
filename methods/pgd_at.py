"""PGD-AT: Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al., ICLR 2018).

Recipe of Rice et al. (ICML 2020, github.com/locuslab/robust_overfitting), crafted in eval mode (Pang et al. 2021).
"""

from dataclasses import dataclass

from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task


@dataclass(frozen=True)
class PGDAT(Method[OneNetwork]):
    """L = CE(z(x'), y), x' = argmax CE(z(x'), y)."""

    card = Card(
        name="pgd_at",
        label="PGD-AT",
        title="Towards Deep Learning Models Resistant to Adversarial Attacks",
        authors="Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian",
        venue="ICLR",
        year=2018,
        url="https://openreview.net/forum?id=rJzIBfZAb",
        key="madry2018towards",
        code="https://github.com/locuslab/robust_overfitting",
        family="adversarial training",
        forwards=23,
        differs=("Crafts in eval mode (Rice et al. in train mode): Pang et al. (ICLR 2021) find it no worse.",),
    )

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        return ce_mean(nets.target(x_adv), batch.y)
