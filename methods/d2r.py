"""D2R: dual regularization loss with collaborative adversarial generation for model robustness (Liu et al., 2025)."""

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from torch import Tensor

from advbench.benchmark.losses import ce_mean, kl_elements, kl_sum, mse_elements
from advbench.benchmark.method import Batch, Card, Method, Recipe, Step, Task, TwoNetworks, knob

Adversarial = Literal["mse", "kl_fwd", "kl_rev", "mse+kl_rev"]
Clean = Literal["none", "kl_diff", "kl_fwd", "kl_rev", "mse"]


def distance(term: Adversarial | Clean, weight: float, z: Tensor, z_g: Tensor) -> Tensor:
    """Return a term of the function space between target logits z and guide logits z_g; `weight` is that of the KLs.

    kl_fwd = KL(p_g || p_s), kl_rev = KL(p_s || p_g), kl_diff = |kl_rev - kl_fwd| of the batch (0 for many p_s ≠ p_g).
    """
    match term:
        case "none":
            return z.new_zeros(())
        case "mse":
            return mse_elements(z, z_g)
        case "kl_fwd":
            return weight * kl_elements(z_g, z)
        case "kl_rev":
            return weight * kl_elements(z, z_g)
        case "mse+kl_rev":
            return mse_elements(z, z_g) + weight * kl_elements(z, z_g)
        case "kl_diff":
            return weight * (kl_elements(z, z_g) - kl_elements(z_g, z)).abs()


@dataclass(frozen=True)
class D2R(Method[TwoNetworks]):
    """L = CE(z_g(x), y) + MSE(z_s(x'), z_g(x)) + 30 KL(p_s(x') || p_g(x)) + 20 |k1 - k2|.

    k1 = KL(p_s(x) || p_g(x)), k2 = KL(p_g(x) || p_s(x));
    x' = argmax KL(p_g(x) || p_s(x')): the guide that is trained along is the reference of the attack (CAG). In the loss
    KLs are means over images and classes, nothing is detached, and the target has no ground truth.
    """

    adv_term: Adversarial = knob("mse+kl_rev", "release; the rest: the paper's function space")  # noqa: RUF009 (frozen)
    clean_term: Clean = knob("kl_diff", "release; the rest: the paper's function space")  # noqa: RUF009 (frozen)
    adv_weight: float = knob(
        30.0, "release, for every number of classes: weight of KL in adv_term", tune=(10.0, 30.0, 60.0)
    )
    clean_weight: float = knob(
        20.0, "release, for every number of classes: weight of KL in clean_term", tune=(5.0, 20.0, 60.0)
    )
    rescale: bool = knob(False, "ours: multiply both weights by C/10, so that an image keeps its strength at every C")
    card = Card(
        name="d2r",
        label="D2R",
        title="D2R: dual regularization loss with collaborative adversarial generation for model robustness",
        authors="Liu, Zhenyu and Liang, Huizhi and Ranjan, Rajiv and Zhu, Zhanxing and Snasel, Vaclav and Ojha, Varun",
        venue="arXiv",
        year=2025,
        url="https://arxiv.org/abs/2506.07056",
        key="liu2025d2r",
        code="https://github.com/lusti-Yu/D2R",
        family="two networks",
        forwards=30,
        recipe=Recipe(lr=0.1, weight_decay=2e-4, epochs=100, drops=(75, 90)),
        differs=(
            "The KLs are exact; the release adds 1e-5 inside one of their logarithms.",
            "The guide is the protocol's, by default the target's (release: its command line's); paper not consulted.",
            "The weights are the released ones at every C, so an image's strength falls as 1/C; `rescale` keeps it.",
            "The release's first epoch is at learning rate 0.02, the next at 0.1: the schedule is the protocol's.",
        ),
    )

    def __post_init__(self) -> None:
        """Refuse unknown terms and negative weights."""
        if self.adv_term not in get_args(Adversarial) or self.clean_term not in get_args(Clean):
            terms = (", ".join(get_args(choice)) for choice in (Adversarial, Clean))
            raise ValueError("adv_term must be one of {}, and clean_term one of {}".format(*terms))
        if not (0 <= self.adv_weight < inf and 0 <= self.clean_weight < inf):
            raise ValueError("adv_weight and clean_weight must be 0 or more")

    def build(self, task: Task) -> TwoNetworks:
        """Train a target and a guide."""
        return TwoNetworks(task.network(), task.guide())

    def loss(self, nets: TwoNetworks, batch: Batch, step: Step) -> Tensor:
        """Return the guide's cross-entropy plus the adversarial and the clean distance between target and guide."""
        reference = step.predict(nets.guide, batch.x)
        x_adv = step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x)), start="gaussian")
        z_adv, z, z_g = nets.target(x_adv), nets.target(batch.x), nets.guide(batch.x)
        scale = z_g.shape[1] / 10 if self.rescale else 1.0
        adversarial = distance(self.adv_term, scale * self.adv_weight, z_adv, z_g)
        return ce_mean(z_g, batch.y) + adversarial + distance(self.clean_term, scale * self.clean_weight, z, z_g)
