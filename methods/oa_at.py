"""OA-AT: Scaling Adversarial Training to Large Perturbation Bounds (Addepalli et al., ECCV 2022, arXiv:2210.09852)."""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean, softmax
from advbench.benchmark.method import Batch, Card, Method, Step, Task, knob
from advbench.benchmark.weights import Averaged, perturbed_step


def lateness(step: Step) -> float:
    """Return u."""
    return max(0.0, 4 * step.end_of_epoch - 3) if step.progress >= 0.75 else 0.0


@dataclass(frozen=True)
class OAAT(Method[Averaged]):
    """L = CE(z(x), y) + b KL(q || p(x')) at perturbed weights (AWP), q = p(x), x' = argmax CE in a ball that grows.

    In the last quarter u rises from 0 to 1, b from beta to beta_final, and in turn x' = argmax CE − u lpips · distance
    of the average's features, or x' = x'' cut to the ball and q = (1 − u mix) p(x) + u mix p(x''), x'' = argmax CE
    within `mix_radius`.
    """

    beta: float = knob(1.5, "release, ResNet-18 (WideResNet: 2)")
    beta_final: float = knob(3.0, "release", tune=(1.5, 3.0, 6.0))
    mix: float = knob(0.2, "release, ResNet-18 (WideResNet: 0.45)", tune=(0.0, 0.2, 0.45))
    mix_radius: float = knob(1.5, "release, ResNet-18 (WideResNet: 1): in radii, cut to the protocol's ceiling")
    lpips: float = knob(1.0, "release")
    gamma: float = knob(
        0.005, "release: size of the perturbation of a layer relative to its norm", tune=(0.002, 0.005, 0.01)
    )
    warmup: float = knob(9 / 200, "release: epoch 10, counted from 1, of 200; fraction without perturbation")
    decay: float = knob(0.995, "release: of the average, per step (0.9996 and 0.9998 begin at three quarters)")
    card = Card(
        name="oa_at",
        label="OA-AT",
        title="Scaling Adversarial Training to Large Perturbation Bounds",
        authors="Addepalli, Sravanti and Jain, Samyak and Sriramanan, Gaurang and Venkatesh Babu, R.",
        venue="ECCV",
        year=2022,
        url="https://arxiv.org/abs/2210.09852",
        key="addepalli2022scaling",
        code="https://github.com/val-iisc/OAAT",
        family="weight perturbation",
        attacks=2,
        forwards=(16, 22, 32, 35, 53),
        differs=(
            "The released bound of 16/255 is the protocol's radius here; all radii keep their ratio to it.",
            "Distance of penultimate features (released: LPIPS of several layers) of the average as it is now.",
            "Starts uniformly in the whole ball (released: a quarter radius); the optimiser is not begun anew.",
            "Under the protocol's schedule, without AutoAugment; x is forwarded once (released: twice).",
        ),
        notes=("schedule differs from the method's own", "radius grows"),
    )

    def __post_init__(self) -> None:
        weights = (self.beta, self.beta_final, self.lpips, self.gamma, self.mix_radius)
        shares = 0 <= self.mix <= 1 and 0 <= self.warmup <= 1 and 0 < self.decay < 1
        if not (shares and all(0 <= value < inf for value in weights)):
            raise ValueError("beta, beta_final, lpips, gamma, mix_radius >= 0; mix, warmup in [0, 1]; decay in (0, 1)")

    def build(self, task: Task) -> Averaged:
        """Train one network and average it; count the batches, which take turns."""
        nets = Averaged(task.network())
        nets.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        return nets

    def crafted(self, nets: Averaged, batch: Batch, step: Step, late: float) -> tuple[Tensor, Tensor | None]:
        """Return x' and, where it is that turn's, x''; `late` is u."""
        x, y, _ = batch
        early = step.progress < 0.25
        eps, steps = (0.25, min(5, step.inner_steps)) if early else (step.end_of_epoch, step.inner_steps)
        plain = lambda x_now: ce_sum(nets.target(x_now), y)  # noqa: E731 (one line)

        def far(x_now: Tensor) -> Tensor:
            distance: Tensor = (normalize(step.features(nets.average, x_now)[0]) - features).norm(dim=1)
            return ce_sum(nets.target(x_now), y) - late * self.lpips * distance.sum()

        if not late:
            return step.craft(x, plain, eps=eps, step=eps / (4 - 2 * early), steps=steps), None
        if int(nets.get_buffer("batches").add_(1)) % 2:
            large = min(self.mix_radius, step.ceiling)
            x_mix = step.craft(x, plain, eps=large, step=large / 4)
            return step.project(x_mix, x, eps), x_mix
        with torch.no_grad():
            features = normalize(step.features(nets.average.eval(), x)[0])
        return step.craft(x, far, eps=eps, step=eps / 4), None

    def outer(self, nets: Averaged, batch: Batch, x_adv: Tensor, x_mix: Tensor | None, late: float) -> Tensor:
        """Return the loss at whatever the weights of the target are."""
        beta = self.beta + late * (self.beta_final - self.beta)
        z_mix = None if x_mix is None else nets.target(x_mix)
        z_adv, z = nets.target(x_adv), nets.target(batch.x)
        if z_mix is None:
            return ce_mean(z, batch.y) + beta * kl_mean(z, z_adv)
        q = (1 - late * self.mix) * softmax(z) + late * self.mix * softmax(z_mix)
        return ce_mean(z, batch.y) + beta * (ce_mean(z_adv, q) + torch.xlogy(q, q).sum(dim=1).mean())

    def loss(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Return the loss at unperturbed weights."""
        late = lateness(step)
        return self.outer(nets, batch, *self.crafted(nets, batch, step, late), late)

    def update(self, nets: Averaged, batch: Batch, step: Step) -> None:
        """Take the step at weights moved up CE + b KL on x', before the last quarter on x + 2 (x' − x)."""
        late = lateness(step)
        x_adv, x_mix = self.crafted(nets, batch, step, late)
        hard = (x_adv if x_mix is None else x_mix) if late else (2 * x_adv - batch.x).clamp(0, 1)
        gamma = self.gamma if step.progress >= self.warmup else 0.0
        ascent = lambda: self.outer(nets, batch, hard, None, late)  # noqa: E731 (one line)
        perturbed_step(step, nets.target, lambda: self.outer(nets, batch, x_adv, x_mix, late), gamma, ascent)

    def after_step(self, nets: Averaged, step: Step) -> None:  # noqa: ARG002 (nothing to ask of the step)
        """Average; the first step is the start."""
        nets.absorb(self.decay * (nets.count > 0))

    def deployed(self, nets: Averaged) -> nn.Module:
        """Deploy the average."""
        return nets.average
