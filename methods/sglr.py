"""SGLR: Soften to Defend: Towards Adversarial Robustness via Self-Guided Label Refinement (Li et al., CVPR 2024)."""

from dataclasses import dataclass, replace
from math import ceil, inf

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean, kl_sum, softmax
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Recipe, Step, Task, knob

ABSENT = "not in the release; paper not consulted"
MIXED = (
    "The row is the authors' release of the preprint, which mixes in no hard label at each batch; `refined` < 1 does."
)


@dataclass(frozen=True)
class SGLR(Method[OneNetwork]):
    """L = CE(z(x'), t): t = y at first, then a running average of the network's own outputs; x' = argmax CE(z(x'), y).

    From `start` on, per visit, before the loss: t_i <- decay t_i + (1 - decay) (clean p(x_i) + (1 - clean) p(x'_i)).
    """

    start: float = knob(89 / 200, "release (epoch 90 of 200, counted from 1): fraction of training with hard labels")
    decay: float = knob(0.9, "release; per visit, not rescaled to the number of epochs")
    clean: float = knob(0.2, "release: share of the clean output", tune=(0.0, 0.2, 0.5))
    refined: float = knob(
        1.0, f"ours: label = refined t + (1 - refined) one-hot; the paper's r is {ABSENT}", tune=(0.5, 0.8, 1.0)
    )
    card = Card(
        name="sglr",
        label="SGLR",
        title="Soften to Defend: Towards Adversarial Robustness via Self-Guided Label Refinement",
        authors="Li, Zhuorong and Yu, Daiwei and Wei, Lina and Jin, Canghong and Zhang, Yun and Chan, Sixian",
        venue="CVPR",
        year=2024,
        url="https://arxiv.org/abs/2403.09101",
        key="li2024soften",
        code="https://github.com/devicerxx/SGLS",
        family="label refinement",
        forwards=(23, 24),
        recipe=Recipe(lr=0.1, weight_decay=5e-4, epochs=200, drops=(100, 150)),
        differs=(MIXED,),
    )

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1]."""
        if not all(0 <= share <= 1 for share in (self.start, self.decay, self.clean, self.refined)):
            raise ValueError("start, decay, clean and refined must be in [0, 1]")

    def notes(self, epochs: int, steps: int) -> tuple[str, ...]:  # noqa: ARG002 (visits count, not steps)
        """Add what is left of the labels' one-hot start: the decay is per visit, however long training is."""
        left = self.decay ** (epochs - ceil(self.start * epochs))
        return (*self.card.notes, f"labels keep {left:.0%} of their one-hot start after {epochs} epochs")

    def build(self, task: Task) -> OneNetwork:
        """Train one network and remember a soft label of every training image, one-hot at first."""
        nets = OneNetwork(task.network())
        table = one_hot(task.labels, task.num_classes).to(next(nets.parameters()))
        nets.register_buffer("table", table)
        return nets

    def refine(self, nets: OneNetwork, batch: Batch, z: Tensor, z_adv: Tensor) -> Tensor:
        """Move the remembered labels (B, C) towards the outputs; return what to train on."""
        table = nets.get_buffer("table")
        mixed = self.clean * softmax(z.detach()) + (1 - self.clean) * softmax(z_adv.detach())
        labels = self.decay * table[batch.index] + (1 - self.decay) * mixed.to(table)
        table[batch.index] = labels
        return self.refined * labels + (1 - self.refined) * one_hot(batch.y, labels.shape[1]).to(labels)

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy of the adversarial output with hard, later with refined labels."""
        z_adv = nets.target(step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y)))
        if step.progress < self.start:
            return ce_mean(z_adv, batch.y)
        with torch.no_grad():
            z = nets.target(batch.x)
        return ce_mean(z_adv, self.refine(nets, batch, z, z_adv))


@dataclass(frozen=True)
class TRADESSGLR(SGLR):
    """L = CE(z(x), t) + beta KL(p(x) || p(x')): t as in SGLR, x' = argmax KL(p(x) || p(x')) from a uniform start."""

    beta: float = knob(
        6.0, f"TRADES; release's compiled default: 1; the paper's is {ABSENT}", tune=(1.0, 3.0, 6.0, 9.0)
    )
    card = replace(
        SGLR.card,
        name="trades_sglr",
        label="TRADES-SGLR",
        recipe=None,
        forwards=27,
        differs=(
            MIXED,
            "Forwards x', x for the release's x, x', x', whose last one only refines the labels (train mode).",
        ),
    )

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        super().__post_init__()
        if not 0 <= self.beta < inf:
            raise ValueError("beta must be 0 or more")

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the TRADES loss with hard, later with refined labels on the clean output."""
        reference = step.predict(nets.target, batch.x)
        z_adv = nets.target(step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x))))
        z = nets.target(batch.x)
        labels = batch.y if step.progress < self.start else self.refine(nets, batch, z, z_adv)
        return ce_mean(z, labels) + self.beta * kl_mean(z, z_adv)
