"""MART: Improving Adversarial Robustness Requires Revisiting Misclassified Examples (Wang et al., ICLR 2020)."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum, kl_each, softmax
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Recipe, Step, Task, knob


@dataclass(frozen=True)
class MART(Method[OneNetwork]):
    """L = CE(z(x'), y) - log(1 - max_{k≠y} p_k(x')) + beta KL(p(x) || p(x')) (1 - p_y(x)), x' = argmax CE(z(x'), y)."""

    beta: float = knob(
        5.0,
        "release, ResNet-18; its WideResNet-34-10 has 6: set it under WideResNet protocols",
        tune=(1.0, 3.0, 5.0, 9.0),
    )
    card = Card(
        name="mart",
        label="MART",
        title="Improving Adversarial Robustness Requires Revisiting Misclassified Examples",
        authors="Wang, Yisen and Zou, Difan and Yi, Jinfeng and Bailey, James and Ma, Xingjun and Gu, Quanquan",
        venue="ICLR",
        year=2020,
        url="https://openreview.net/forum?id=rklOg6EFwS",
        key="wang2020improving",
        code="https://github.com/YisenWang/MART",
        family="reweighting",
        forwards=26,
        recipe=Recipe(lr=0.01, weight_decay=3.5e-3, epochs=120, drops=(74, 89, 99)),
        differs=("KL from log-softmax; the release floors log p(x') at log 1e-12, below which it gives no gradient.",),
    )

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        if not 0 <= self.beta < inf:
            raise ValueError("beta must be 0 or more")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the boosted cross-entropy plus the divergence, weighted by how wrong the clean output is."""
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y), start="gaussian")
        z, z_adv = nets.target(batch.x), nets.target(x_adv)
        own = batch.y[:, None]
        strongest_rival = softmax(z_adv).scatter(1, own, 0.0).amax(dim=1)
        boosted = ce_mean(z_adv, batch.y) - (1.0001 - strongest_rival + 1e-12).log().mean()
        wrongness = 1.0000001 - softmax(z).gather(1, own).squeeze(1)
        return boosted + self.beta * (kl_each(z, z_adv) * wrongness).mean()
