"""LAS-AT: Adversarial Training with Learnable Attack Strategy (Jia et al., CVPR 2022, arXiv:2203.06616)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum, softmax
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob
from advbench.benchmark.weights import frozen_copy

CHOICES = [12, 11, 4]
"""Numbers of radii, from 3/8 of the protocol's, of inner steps, from 3, and of step sizes, from 1/8 of the radius."""


@dataclass(frozen=True)
class LASAT(Method[OneNetwork]):
    """L = CE(z(x'), smoothed y) − [each `interval`-th batch] reward Σ_k mean log π_k(a_k | x).

    A strategy network draws radius, steps and step size a of the attack on each image; reward = CE(z(x'), y) +
    robust · PGD accuracy + clean · clean accuracy, both of a copy of the target one step ahead.
    """

    label: float = knob(0.7, "release: probability of the true class in smoothed labels", tune=(0.6, 0.7, 0.9))
    interval: int = knob(20, "release: batches between updates of the strategy")
    robust: float = knob(4.0, "release: R2_param", tune=(2.0, 4.0, 8.0))
    clean: float = knob(2.0, "release: R3_param", tune=(1.0, 2.0, 4.0))
    ahead: float = knob(0.1, "release: the current learning rate, which is 0.1 at first; here always")
    rate: float = knob(1e-3, "release: 1e-4 where the target begins with 0.1; factor for the strategy")
    card = Card(
        name="las_at",
        label="LAS-AT",
        title="LAS-AT: Adversarial Training with Learnable Attack Strategy",
        authors="Jia, Xiaojun and Zhang, Yong and Wu, Baoyuan and Ma, Ke and Wang, Jue and Cao, Xiaochun",
        venue="CVPR",
        year=2022,
        url="https://arxiv.org/abs/2203.06616",
        key="jia2022lasat",
        code="https://github.com/jiaxiaojunQAQ/LAS-AT",
        family="adversarial training",
        attacks=2,
        forwards=(52, 24),
        differs=(
            "Radii (released: 3/8 to 14/8) and steps (3 to 13) are cut to the protocol's: the attack keeps its budget.",
            "The images that train the target serve for the reward, too; the copy is attacked once (released: twice).",
            "The policy reads the outputs of a network of the protocol (released: the features of a ResNet-18).",
            "The strategy has the protocol's momentum and weight decay, and no clipped gradient (released: norm 1).",
        ),
        notes=("52F in each 20th batch, else 24F", "radii within the protocol's"),
    )

    def __post_init__(self) -> None:
        if not 0 < self.label <= 1 or self.interval < 1:
            raise ValueError("label must lie in (0, 1], interval must be 1 or more")
        if not all(0 <= value < inf for value in (self.robust, self.clean, self.ahead, self.rate)):
            raise ValueError("robust, clean, ahead and rate must be 0 or more and finite")

    def rates(self) -> Mapping[str, float]:
        """Train the strategy slowly."""
        return {"strategy": self.rate, "policy": self.rate}

    def build(self, task: Task) -> OneNetwork:
        """Train a network, and a strategy network with its policy."""
        nets = OneNetwork(task.network())
        nets.add_module("strategy", task.network())
        nets.add_module("policy", nn.Linear(task.num_classes, sum(CHOICES)).to(next(nets.parameters())))
        nets.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        return nets

    def drawn(self, logits: Tensor, step: Step) -> tuple[list[Tensor], Tensor]:
        """Draw an action of each kind for each image (B,); return them and their mean log probabilities, summed."""
        actions, log_probability = [], logits.new_zeros(())
        for choice in torch.split(logits, CHOICES, dim=1):
            p = softmax(choice)
            actions.append(torch.multinomial(p.detach(), 1, generator=step.generator).squeeze(1))
            log_probability = log_probability + p.gather(1, actions[-1][:, None]).log().mean()
        return actions, log_probability

    def crafted(self, nets: OneNetwork, batch: Batch, actions: list[Tensor], step: Step) -> Tensor:
        """Attack each image by its own strategy."""
        radius, steps, size = (action.to(batch.x) for action in actions)
        taken = torch.zeros_like(steps)
        return step.craft(
            batch.x,
            lambda x: ce_sum(nets.target(x), batch.y),
            eps=((3 + radius) / 8).clamp(max=step.ceiling),
            step=(1 + size) / 8,
            freeze=lambda _x_adv: taken.add_(1) > 3 + steps,
        )

    def reward(self, nets: OneNetwork, batch: Batch, x_adv: Tensor, soft: Tensor, step: Step) -> Tensor:
        """Return what the strategy is paid: the target's loss now, its accuracies one step later."""
        loss = ce_mean(step.predict(nets.target, x_adv), batch.y).clamp(0, 10)
        ahead = frozen_copy(nets.target).requires_grad_()
        weights = list(ahead.parameters())
        gradients = torch.autograd.grad(ce_mean(ahead(x_adv), soft), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(self.ahead * gradient)
        ahead.eval()
        x_later = step.craft(batch.x, lambda x: ce_sum(ahead(x), batch.y))
        robust, clean = ((step.predict(ahead, x).argmax(dim=1) == batch.y).to(loss).mean() for x in (x_later, batch.x))
        return loss + self.robust * robust + self.clean * clean

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the target's loss and, now and then, that of the strategy."""
        strategy, policy = nets.get_submodule("strategy"), nets.get_submodule("policy")
        due = int(nets.get_buffer("batches").add_(1)) % self.interval == 1 % self.interval
        z_strategy = strategy(batch.x) if due else step.predict(strategy, batch.x)
        actions, log_probability = self.drawn(policy(z_strategy), step)
        x_adv = self.crafted(nets, batch, actions, step)
        z_adv = nets.target(x_adv)
        rest = torch.full_like(z_adv, (1 - self.label) / (z_adv.shape[1] - 1), requires_grad=False)
        soft = rest.scatter(1, batch.y[:, None], self.label)
        loss = ce_mean(z_adv, soft)
        return loss if not due else loss - self.reward(nets, batch, x_adv, soft, step) * log_probability
