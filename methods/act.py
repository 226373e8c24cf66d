"""ACT: Adversarial Concurrent Training (Arani et al., BMVC 2020): a robust and a natural network teach each other."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean, kl_sum
from advbench.benchmark.method import Batch, Card, Method, Step, Task, TwoNetworks, knob


@dataclass(frozen=True)
class ACT(Method[TwoNetworks]):
    """L = (1 - a) (CE(z_s(x'), y) + CE(z_g(x), y)) + a T² (KL(p_g(x) || p_s(x')) + KL(p_s(x') || p_g(x))).

    p at temperature T. The reference of each KL is detached, so that each network has a loss of its own and one
    optimiser does what two would. The target never sees x, the guide never x'.
    x' = argmax (1 - a) CE_mean(z_s(x'), y) + a KL_sum(p_g(x) || p_s(x')) at temperature 1.
    """

    alpha_target: float = knob(0.9, "release", tune=(0.5, 0.7, 0.9))
    alpha_guide: float = knob(0.9, "release", tune=(0.5, 0.7, 0.9))
    alpha_attack: float = knob(0.9, "release")
    temperature: float = knob(4.0, "release", tune=(1.0, 2.0, 4.0))
    attack_ce_per_sample: bool = knob(False, "release: a mean of CE beside a sum of KL; True sums both (ours)")
    card = Card(
        name="act",
        label="ACT",
        title="Adversarial Concurrent Training: Optimizing Robustness and Accuracy Trade-off of Deep Neural Networks",
        authors="Arani, Elahe and Sarfraz, Fahad and Zonooz, Bahram",
        venue="BMVC",
        year=2020,
        url="https://arxiv.org/abs/2008.07015",
        key="arani2020adversarial",
        code="https://github.com/NeurAI-Lab/ACT",
        family="two networks",
        forwards=26,
        differs=(
            "The attack's objective adds a batch mean of CE to a batch sum of KL, as released: nearly pure KL.",
            "No targeted attack: the released option for ImageNet is left out.",
            "Pads by zeros, the release by reflection: augmentation is the protocol's.",
            "The release's ImageNet recipe (weight decay 1e-5, 64 images a GPU, step 1.0) is not the protocol's.",
        ),
    )

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1] and a temperature that is not positive."""
        shares = (self.alpha_target, self.alpha_guide, self.alpha_attack)
        if not (all(0 <= share <= 1 for share in shares) and 0 < self.temperature < inf):
            raise ValueError("alpha_target, alpha_guide and alpha_attack must be in [0, 1], and temperature above 0")

    def build(self, task: Task) -> TwoNetworks:
        """Train the robust network (target) and the natural one (guide)."""
        return TwoNetworks(task.network(), task.network())

    def distil(self, z: Tensor, labels: Tensor, reference: Tensor, share: float) -> Tensor:
        """Return the mix of cross-entropy and KL to the other network's detached outputs."""
        divergence = self.temperature**2 * kl_mean(reference.detach(), z, self.temperature)
        return (1 - share) * ce_mean(z, labels) + share * divergence

    def loss(self, nets: TwoNetworks, batch: Batch, step: Step) -> Tensor:
        """Return the sum of both networks' losses."""
        z_g = nets.guide(batch.x)
        cross_entropy = ce_sum if self.attack_ce_per_sample else ce_mean

        def objective(x: Tensor) -> Tensor:
            z = nets.target(x)
            natural = kl_sum(z_g.detach(), z)
            return (1 - self.alpha_attack) * cross_entropy(z, batch.y) + self.alpha_attack * natural

        z_adv = nets.target(step.craft(batch.x, objective, start="gaussian"))
        loss_target = self.distil(z_adv, batch.y, z_g, self.alpha_target)
        return loss_target + self.distil(z_g, batch.y, z_adv, self.alpha_guide)
