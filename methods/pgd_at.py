"""PGD-AT: Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al., ICLR 2018).

Recipe of Rice et al. (ICML 2020, github.com/locuslab/robust_overfitting), crafted in eval mode (Pang et al. 2021).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Recipe, Step, Task, knob
from advbench.benchmark.weights import EMA, SWA


@dataclass(frozen=True)
class PGDAT(Method[OneNetwork]):
    """L = CE(z(x'), y), x' = argmax CE(z(x'), y)."""

    release_bn: bool = knob(False, "ours: the release's unused clean forward only moves batch-norm statistics")
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
        recipe=Recipe(lr=0.1, weight_decay=5e-4, epochs=200, drops=(100, 150)),
        differs=(
            "Crafts in eval mode (Rice et al. in train mode): Pang et al. (ICLR 2021) find it no worse.",
            "No forward of x after each step to move batch-norm statistics; release_bn adds one, before the step.",
        ),
    )

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        z_adv = nets.target(x_adv)
        if self.release_bn:
            with torch.no_grad():
                nets.target(batch.x)
        return ce_mean(z_adv, batch.y)


@dataclass(frozen=True)
class PGDATEMA(EMA[OneNetwork], PGDAT):
    """L = CE(z(x'), y); deployed: w̄ ← d w̄ + (1 − d) w after each step t = 0, 1, …, d = min(decay, (t+1)/(t+10))."""

    decay: float = knob(
        0.995,
        "ours: OA-AT's release averages with it, SEAT, which is this with 0.999, with another",
        tune=(0.99, 0.995, 0.999),
    )
    card = replace(
        PGDAT.card,
        name="pgd_at_ema",
        label="PGD-AT+EMA",
        recipe=None,
        family="averaging",
        differs=(*PGDAT.card.differs, "Weights and statistics are averaged, which the paper does not do."),
    )


@dataclass(frozen=True)
class PGDATSWA(SWA[OneNetwork], PGDAT):
    """L = CE(z(x'), y); deployed: the equal average of the epochs from `swa_delay` after the first drop on."""

    card = replace(
        PGDAT.card,
        name="pgd_at_swa",
        label="PGD-AT+SWA",
        recipe=None,
        family="averaging",
        differs=(*PGDAT.card.differs, "Epochs are averaged as KD+SWA's release does, which the paper does not do."),
    )
