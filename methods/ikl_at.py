"""IKL-AT: Decoupled Kullback-Leibler Divergence Loss (Cui et al., NeurIPS 2024).

https://arxiv.org/abs/2305.13948
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, kl_sum, softmax
from advbench.benchmark.method import Batch, Card, Method, Step, Task, knob
from advbench.benchmark.weights import Averaged, perturbed_step


@dataclass(frozen=True)
class IKLAT(Method[Averaged]):
    """L = CE(z(x), y) + alpha CE(z(x'), p(x)) + beta/4 mean_i Σ_jk s_j s_k (d_j − d_k)² at perturbed weights (AWP).

    d = z(x) − z(x'), p(x) detached; s = mean of softmax(z(x)/T) over the images of x_i's class in the last epoch, at
    first 1/C. x' = argmax KL(p(x) || p(x')) in a ball that grows to the whole. Deployed: an average over epochs.
    """

    alpha: float = knob(4.0, "release, CIFAR-10 and CIFAR-100", tune=(2.0, 4.0, 8.0))
    beta: float = knob(20.0, "release, CIFAR-10 and CIFAR-100", tune=(10.0, 20.0, 40.0))
    temperature: float = knob(4.0, "release, CIFAR-10 and CIFAR-100: of the class means")
    gamma: float = knob(
        0.005, "release: size of the perturbation of a layer relative to its norm", tune=(0.002, 0.005, 0.01)
    )
    warmup: float = knob(9 / 200, "release: epoch 10 of 200, counted from 1; fraction of training without perturbation")
    decay: float = knob(0.9, "release (swa.py): of the average, per epoch")
    card = Card(
        name="ikl_at",
        label="IKL-AT",
        title="Decoupled Kullback-Leibler Divergence Loss",
        authors="Cui, Jiequan and Tian, Zhuotao and Zhong, Zhisheng and Qi, Xiaojuan and Yu, Bei and Zhang, Hanwang",
        venue="NeurIPS",
        year=2024,
        url="https://arxiv.org/abs/2305.13948",
        key="cui2024decoupled",
        code="https://github.com/jiequancui/DKL",
        family="weight perturbation",
        forwards=(11, 17, 19, 21, 23),
        differs=(
            "Under the protocol's schedule (the release: lr 0.2, cosine); no second, augmented view of each image.",
        ),
        notes=("schedule differs from the method's own", "radius grows, 2 to 5 inner steps"),
    )

    def __post_init__(self) -> None:
        if not all(0 <= value < inf for value in (self.alpha, self.beta, self.gamma)) or not self.temperature > 0:
            raise ValueError("alpha, beta and gamma must be 0 or more and finite, and temperature positive")
        if not 0 <= self.warmup <= 1 or not 0 <= self.decay < 1:
            raise ValueError("warmup must lie in [0, 1], decay in [0, 1)")

    def build(self, task: Task) -> Averaged:
        """Train one network and average it; remember the mean output of each class, of this epoch and of the last."""
        nets = Averaged(task.network())
        square = next(nets.parameters()).new_ones(task.num_classes, task.num_classes)
        nets.register_buffer("sums", torch.zeros_like(square))
        nets.register_buffer("means", square / task.num_classes)
        return nets

    def crafted(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Ascend the divergence in epoch e of E, counted from 1, within e/E of the radius: 2 steps, later 3, 4, 5."""
        quarter = min(3, int(4 * step.progress))
        reference, size = step.predict(nets.target, batch.x), step.end_of_epoch * (1.0, 2 / 3, 0.5, 0.5)[quarter]
        steps, radius = min(2 + quarter, step.inner_steps), step.end_of_epoch
        ascended = lambda x: kl_sum(reference, nets.target(x))  # noqa: E731 (one line)
        return step.craft(batch.x, ascended, start="gaussian", steps=steps, eps=radius, step=size)

    def outer(self, nets: Averaged, batch: Batch, x_adv: Tensor, *, remember: bool = True) -> Tensor:
        """Return the loss at whatever the weights of the target are; its last term is beta/2 times a variance."""
        z_adv, z = nets.target(x_adv), nets.target(batch.x)
        s, d = nets.get_buffer("means")[batch.y], z - z_adv
        if remember:
            nets.get_buffer("sums").index_add_(0, batch.y, softmax(z.detach() / self.temperature).to(s))
        variance: Tensor = s.sum(dim=1) * (s * d.square()).sum(dim=1) - (s * d).sum(dim=1).square()
        matched = self.alpha * ce_mean(z_adv, softmax(z).detach()) + self.beta / 2 * variance.mean()
        return ce_mean(z, batch.y) + matched

    def loss(self, nets: Averaged, batch: Batch, step: Step) -> Tensor:
        """Return the loss at unperturbed weights."""
        return self.outer(nets, batch, self.crafted(nets, batch, step))

    def update(self, nets: Averaged, batch: Batch, step: Step) -> None:
        """Take the step at weights that were moved up the loss."""
        x_adv = self.crafted(nets, batch, step)
        gamma = self.gamma if step.progress >= self.warmup else 0.0
        ascent = lambda: self.outer(nets, batch, x_adv, remember=False)  # noqa: E731 (one line)
        perturbed_step(step, nets.target, lambda: self.outer(nets, batch, x_adv), gamma, ascent)

    def after_epoch(self, nets: Averaged, step: Step) -> None:  # noqa: ARG002 (nothing to ask of the step)
        """Average the weights, and take over the means of the classes that were seen."""
        sums, means = nets.get_buffer("sums"), nets.get_buffer("means")
        seen = sums.sum(dim=1, keepdim=True)
        means.copy_(torch.where(seen > 0, sums / seen, means))
        sums.zero_()
        nets.absorb(self.decay * (nets.count > 0))

    def deployed(self, nets: Averaged) -> nn.Module:
        """Deploy the average once there is one."""
        return nets.average if nets.count else nets.target
