"""LBGAT: Learnable Boundary Guided Adversarial Training (Cui et al., ICCV 2021)."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from advbench.benchmark.losses import ce_mean, kl_mean, kl_sum, mse_elements
from advbench.benchmark.method import Batch, Card, Method, Recipe, Step, Task, TwoNetworks, knob


@dataclass(frozen=True)
class LBGAT(Method[TwoNetworks]):
    """L = CE(z_g(x), y) + MSE(z_s(x'), z_g(x)) + beta KL(p_s(x) || p_s(x')), x' = argmax KL(p_s(x) || p_s(x')).

    Nothing is detached: the guide is drawn towards logits that the target can hold under attack.
    """

    beta: float = knob(
        6.0, "release's default (LBGAT6); 0 is LBGAT0, all that the authors publish for CIFAR-10", tune=(0.0, 3.0, 6.0)
    )
    card = Card(
        name="lbgat",
        label="LBGAT",
        title="Learnable Boundary Guided Adversarial Training",
        authors="Cui, Jiequan and Liu, Shu and Wang, Liwei and Jia, Jiaya",
        venue="ICCV",
        year=2021,
        url="https://openaccess.thecvf.com/content/ICCV2021/html/"
        "Cui_Learnable_Boundary_Guided_Adversarial_Training_ICCV_2021_paper.html",
        key="cui2021learnable",
        code="https://github.com/dvlab-research/LBGAT",
        family="two networks",
        forwards=30,
        recipe=Recipe(lr=0.1, weight_decay=2e-4, epochs=100, drops=(75, 90)),
        differs=(
            "The guide is the protocol's, by default the target's; the release has ResNet-18 beside WideResNet-34.",
            "The release's first epoch is at learning rate 0.02, the next at 0.1: the schedule is the protocol's.",
        ),
    )

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        if not 0 <= self.beta < inf:
            raise ValueError("beta must be 0 or more")

    def build(self, task: Task) -> TwoNetworks:
        """Train a target and a guide."""
        return TwoNetworks(task.network(), task.guide())

    def loss(self, nets: TwoNetworks, batch: Batch, step: Step) -> Tensor:
        """Return the guide's cross-entropy, the distance between the two in logits, and the target's own in outputs."""
        reference = step.predict(nets.target, batch.x)
        x_adv = step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x)), start="gaussian")
        z_adv, z, z_g = nets.target(x_adv), nets.target(batch.x), nets.guide(batch.x)
        return ce_mean(z_g, batch.y) + mse_elements(z_adv, z_g) + self.beta * kl_mean(z, z_adv)
