"""GAIRAT: Geometry-aware Instance-reweighted Adversarial Training (Zhang et al., ICLR 2021).

https://openreview.net/forum?id=iAX0l6Cz8ub
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_each, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob


@dataclass(frozen=True)
class GAIRAT(Method[OneNetwork]):
    """L = mean w_i CE(z(x'_i), y_i), w_i ∝ 1 + tanh(lam + 5 (1 − 2 kappa_i/K)); kappa_i of K iterates are right."""

    lam: float = knob(-1.0, "release", tune=(-1.0, 0.0, 1.0))
    start: float = knob(59 / 120, "release: epoch 60 of 120, counted from 1; equal weights before")
    card = Card(
        name="gairat",
        label="GAIRAT",
        title="Geometry-aware Instance-reweighted Adversarial Training",
        authors="Zhang, Jingfeng and Zhu, Jianing and Niu, Gang and Han, Bo and Sugiyama, Masashi "
        "and Kankanhalli, Mohan",
        venue="ICLR",
        year=2021,
        url="https://openreview.net/forum?id=iAX0l6Cz8ub",
        key="zhang2021geometryaware",
        code="https://github.com/zjfheart/Geometry-aware-Instance-reweighted-Adversarial-Training",
        family="reweighting",
        forwards=23,
    )

    def __post_init__(self) -> None:
        if not -inf < self.lam < inf or not 0 <= self.start <= 1:
            raise ValueError("lam must be finite, start in [0, 1]")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the adversarial cross-entropy, weighted by how soon each image fell."""
        right: list[Tensor] = []  # of the iterates x'_0 … x'_(K−1), each as it is before its step

        def objective(x: Tensor) -> Tensor:
            logits = nets.target(x)
            right.append(logits.detach().argmax(dim=1) == batch.y)
            return ce_sum(logits, batch.y)

        each = ce_each(nets.target(step.craft(batch.x, objective)), batch.y)
        if step.progress < self.start:
            return each.mean()
        kappa = torch.stack(right).sum(dim=0).to(each)
        weight = torch.sigmoid(2 * (self.lam + 5 * (1 - 2 * kappa / len(right))))  # (1 + tanh a) / 2 without cancelling
        return (weight / weight.mean() * each).mean()
