"""ADR: Annealing Self-Distillation Rectification Improves Adversarial Training (Wu, Wang and Chen, ICLR 2024).

https://arxiv.org/abs/2305.12118
"""

from dataclasses import dataclass
from math import cos, inf, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum, softmax
from advbench.benchmark.method import Batch, Card, Method, Step, Task, knob
from advbench.benchmark.weights import Averaged


@dataclass(frozen=True)
class ADR(Method[Averaged]):
    """L = CE(z(x'), r), x' = argmax CE(z(x'), r), r = l q + (1 − l) y with q = softmax(z̄(x)/T) of the averaged network.

    l = clamp(λ − (max q − q_y), 0, 1) of each image; T falls and λ rises along half a cosine; w̄ ← d w̄ + (1 − d) w.
    """

    temperature_start: float = knob(2.5, "release, ResNet-18 on CIFAR-10; on CIFAR-100 1.5")
    temperature_end: float = knob(2.0, "release, ResNet-18 on CIFAR-10; on CIFAR-100 1.0")
    mixing_start: float = knob(0.7, "release")
    mixing_end: float = knob(0.95, "release")
    decay: float = knob(0.995, "release")
    deploy_average: bool = knob(False, "paper: rows without and with WA; the release's training loop validates with it")
    card = Card(
        name="adr",
        label="ADR",
        title="Annealing Self-Distillation Rectification Improves Adversarial Training",
        authors="Wu, Yu-Yu and Wang, Hung-Jui and Chen, Shang-Tse",
        venue="ICLR",
        year=2024,
        url="https://arxiv.org/abs/2305.12118",
        key="wu2024annealing",
        code="https://github.com/yuyuwu5/ADR",
        family="label refinement",
        forwards=24,
        differs=(
            "Crafts in eval mode (the release: train mode).",
            "Temperature and mixing move once an epoch, in the release with every batch.",
        ),
    )

    def __post_init__(self) -> None:
        if not all(0 < value < inf for value in (self.temperature_start, self.temperature_end)):
            raise ValueError("temperature_start and temperature_end must be positive and finite")
        if not all(0 <= value <= 1 for value in (self.mixing_start, self.mixing_end, self.decay)):
            raise ValueError("mixing_start, mixing_end and decay must lie in [0, 1]")

    def build(self, task: Task) -> Averaged:
        """Train one network and average it: the average rectifies the labels."""
        return Averaged(task.network())

    @torch.no_grad()
    def rectified(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Return r (B, C): the average's tempered probabilities, mixed into the label as far as they agree with it."""
        fall = (1 + cos(pi * step.progress)) / 2
        temperature = self.temperature_end + (self.temperature_start - self.temperature_end) * fall
        mixing = self.mixing_end + (self.mixing_start - self.mixing_end) * fall
        q = softmax(step.predict(nets.average, batch.x) / temperature)
        trust = (mixing - (q.amax(dim=1) - q.gather(1, batch.y[:, None])[:, 0])).clamp(0, 1)[:, None]
        return trust * q + (1 - trust) * F.one_hot(batch.y, q.shape[1])

    def loss(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images with rectified labels, which the attack ascends, too."""
        labels = self.rectified(nets, batch, step)
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), labels))
        return ce_mean(nets.target(x_adv), labels)

    def after_step(self, nets: Averaged, step: Step) -> None:  # noqa: ARG002 (nothing to ask of the step)
        """Average weights and statistics."""
        nets.absorb(self.decay)

    def deployed(self, nets: Averaged) -> nn.Module:
        """Deploy the trained network, or the average."""
        return nets.average if self.deploy_average else nets.target
