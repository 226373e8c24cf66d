"""CFA: Class-Wise Calibrated Fair Adversarial Training (Wei, Wang, Guo and Wang, CVPR 2023).

https://openaccess.thecvf.com/content/CVPR2023/html/Wei_CFA_Class-Wise_Calibrated_Fair_Adversarial_Training_CVPR_2023_paper.html
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, Step, Task, knob
from advbench.benchmark.weights import Averaged


@dataclass(frozen=True)
class CFA(Method[Averaged]):
    """L = CE(z(x'), y), x' within (lam + r_y) of the radius, r_y = robust training accuracy of y in the last epoch.

    Deployed: an average of those epochs in which the worst class kept enough robust accuracy.
    """

    lam: float = knob(0.5, "release (README, AT)", tune=(0.25, 0.5, 1.0))
    begin: float = knob(10 / 200, "release: epoch 10 of 200; the whole radius before")
    threshold: float = knob(
        0.2, "release (README, AT): least robust accuracy of a class for an epoch to be averaged", tune=(0.1, 0.2, 0.3)
    )
    decay: float = knob(0.88, "release: of the average, per epoch")
    card = Card(
        name="cfa",
        label="CFA",
        title="CFA: Class-Wise Calibrated Fair Adversarial Training",
        authors="Wei, Zeming and Wang, Yifei and Guo, Yiwen and Wang, Yisen",
        venue="CVPR",
        year=2023,
        url="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Wei_CFA_Class-Wise_Calibrated_Fair_Adversarial_Training_CVPR_2023_paper.html",
        key="wei2023cfa",
        code="https://github.com/PKU-ML/CFA",
        family="adversarial training",
        forwards=23,
        differs=(
            "AT+CFA; no radius exceeds the protocol's ceiling (the release: up to 1.5 radii).",
            "The threshold is on training images as they are trained on (the release: PGD-10 on a validation split).",
            "Crafts in eval mode, without input normalisation; no train-mode forward of x after each step.",
        ),
    )

    def __post_init__(self) -> None:
        if not all(0 <= value <= 1 for value in (self.lam, self.begin, self.threshold)) or not 0 <= self.decay < 1:
            raise ValueError("lam, begin and threshold must lie in [0, 1], decay in [0, 1)")

    def build(self, task: Task) -> Averaged:
        """Train one network and average it; count images, and right ones, of each class."""
        nets = Averaged(task.network())
        for name in ("seen", "right", "robust"):
            nets.register_buffer(name, next(nets.parameters()).new_zeros(task.num_classes))
        return nets

    def loss(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Return the cross-entropy on adversarial images, each within the radius of its class."""
        x, y, _ = batch
        robust = nets.get_buffer("robust")
        eps = (self.lam + robust if step.progress >= self.begin else torch.ones_like(robust)).clamp(max=step.ceiling)
        z_adv = nets.target(step.craft(x, lambda x_now: ce_sum(nets.target(x_now), y), eps=eps[y]))
        nets.get_buffer("seen").index_add_(0, y, torch.ones_like(y).to(robust))
        nets.get_buffer("right").index_add_(0, y, (z_adv.detach().argmax(dim=1) == y).to(robust))
        return ce_mean(z_adv, y)

    def after_epoch(self, nets: Averaged, step: Step) -> None:  # noqa: ARG002 (nothing to ask of the step)
        """Take over the accuracies; average the weights unless a class fell too low."""
        seen, right, robust = (nets.get_buffer(name) for name in ("seen", "right", "robust"))
        robust.copy_(right / seen.clamp(min=1))
        if robust.min() >= self.threshold:
            nets.absorb(self.decay * (nets.count > 0))
        seen.zero_()
        right.zero_()

    def deployed(self, nets: Averaged) -> nn.Module:
        """Deploy the average once there is one."""
        return nets.average if nets.count else nets.target
