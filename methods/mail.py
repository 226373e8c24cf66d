"""MAIL: Probabilistic Margins for Instance Reweighting in Adversarial Training (Wang et al., NeurIPS 2021).

https://arxiv.org/abs/2106.07904
"""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from advbench.benchmark.losses import ce_mean, kl_each, kl_sum, softmax
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob


@dataclass(frozen=True)
class MAILTRADES(Method[OneNetwork]):
    """L = CE(z(x), y) + beta mean w KL(p(x) || p(x')), x' = argmax KL(p(x) || p(x')); w = 1 before the first drop.

    w = scale σ(slope (m + bias)), m = max_{j≠y} p_j(x') − p_y(x'): images beyond the boundary weigh more.
    """

    beta: float = knob(5.0, "release")
    slope: float = knob(1.0, "release")
    bias: float = knob(-1.5, "release")
    scale: float = knob(3.0, "release")
    card = Card(
        name="mail_trades",
        label="MAIL-TRADES",
        title="Probabilistic Margins for Instance Reweighting in Adversarial Training",
        authors="Wang, Qizhou and Liu, Feng and Han, Bo and Liu, Tongliang and Gong, Chen and Niu, Gang "
        "and Zhou, Mingyuan and Sugiyama, Masashi",
        venue="NeurIPS",
        year=2021,
        url="https://arxiv.org/abs/2106.07904",
        key="wang2021probabilistic",
        code="https://github.com/QizhouWang/MAIL",
        family="reweighting",
        forwards=27,
        differs=("Weights begin at the first drop; the release goes on from a TRADES run of 70 epochs, at its first.",),
    )

    def __post_init__(self) -> None:
        if not (0 <= self.beta < inf and 0 < self.scale < inf and abs(self.slope) < inf and abs(self.bias) < inf):
            raise ValueError("beta must be 0 or more, scale positive, slope and bias finite")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return clean cross-entropy plus beta times the weighted divergence."""
        reference = step.predict(nets.target, batch.x)
        x_adv = step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x)), start="gaussian")
        z, z_adv = nets.target(batch.x), nets.target(x_adv)
        apart = kl_each(z, z_adv)
        if step.progress >= step.first_drop:
            p = softmax(z_adv.detach())
            others, own = p.scatter(1, batch.y[:, None], -1.0).amax(dim=1), p.gather(1, batch.y[:, None])[:, 0]
            apart = self.scale * (self.slope * (others - own + self.bias)).sigmoid() * apart
        return ce_mean(z, batch.y) + self.beta * apart.mean()
