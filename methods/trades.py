"""TRADES: Theoretically Principled Trade-off between Robustness and Accuracy (Zhang et al., ICML 2019)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_mean, kl_mean, kl_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Recipe, Step, Task, knob


@dataclass(frozen=True)
class TRADES(Method[OneNetwork]):
    """L = CE(z(x), y) + beta KL(p(x) || p(x')), x' = argmax KL(p(x) || p(x'))."""

    beta: float = knob(6.0, "paper, Table 5; release", tune=(1.0, 3.0, 6.0, 9.0))
    release_bn: bool = knob(False, "ours: the release's third forward (x again) only moves batch-norm statistics")
    card = Card(
        name="trades",
        label="TRADES",
        title="Theoretically Principled Trade-off between Robustness and Accuracy",
        authors="Zhang, Hongyang and Yu, Yaodong and Jiao, Jiantao and Xing, Eric and El Ghaoui, Laurent "
        "and Jordan, Michael",
        venue="ICML",
        year=2019,
        url="https://proceedings.mlr.press/v97/zhang19p.html",
        key="zhang2019theoretically",
        code="https://github.com/yaodongyu/TRADES",
        family="regularised",
        forwards=27,
        recipe=Recipe(lr=0.1, weight_decay=2e-4, epochs=80, drops=(74,)),
        differs=("Two train-mode forwards (x', x) for the release's three (x, x', x); release_bn adds the third.",),
    )

    def __post_init__(self) -> None:
        """Refuse a weight that would reward divergence."""
        if self.beta < 0:
            raise ValueError("beta must be 0 or more")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return clean cross-entropy plus beta times the divergence between clean and adversarial outputs."""
        reference = step.predict(nets.target, batch.x)
        x_adv = step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x)), start="gaussian")
        if self.release_bn:
            with torch.no_grad():
                nets.target(batch.x)
        z_adv, z = nets.target(x_adv), nets.target(batch.x)
        return ce_mean(z, batch.y) + self.beta * kl_mean(z, z_adv)
