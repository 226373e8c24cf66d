"""DYNAT: Dynamic Label Adversarial Training for Deep Learning Robustness (Liu et al., ICONIP 2024), also with AWP.

A guide learns clean images from the ground truth; the target sees only the guide's current decisions ŷ = argmax z_g(x).
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean, kl_sum
from advbench.benchmark.method import Batch, Card, Method, Recipe, Step, Task, TwoNetworks, knob
from advbench.benchmark.weights import perturbed_step

Inner = Literal["dyn_ce", "trades_kl", "gt_ce"]
BETA = "the paper's value per data set is not in the release; paper not consulted"
GUIDE = "The guide is the protocol's, by default the target's (release: its command line's); paper not consulted."
FIRST = "The release's first epoch is at learning rate 0.02, the next at 0.1: the schedule is the protocol's."
ENOUGH = 300
"""Steps in which the target unlearns the guide's constant first labels (digits: 440 suffice, 132 do not)."""
ONCE = "The guide is forwarded once, in train mode, not again in each inner step: the labels are the same ones."


def craft(inner: Inner, nets: TwoNetworks, batch: Batch, z_g: Tensor, step: Step) -> Tensor:
    """Ascend the target's cross-entropy with the guide's decisions or the ground truth, or KL(p_s(x) || p_s(x'))."""
    if inner == "trades_kl":
        reference = step.predict(nets.target, batch.x)
        return step.craft(batch.x, lambda x: kl_sum(reference, nets.target(x)), start="gaussian")
    labels = z_g.argmax(dim=1) if inner == "dyn_ce" else batch.y
    return step.craft(batch.x, lambda x: ce_sum(nets.target(x), labels), start="gaussian")


@dataclass(frozen=True)
class DYNAT(Method[TwoNetworks]):
    """L = CE(z_g(x), y) + beta CE(z_s(x'), ŷ), x' = argmax CE(z_s(x'), ŷ), ŷ = argmax z_g(x)."""

    beta: float = knob(1.0, f"release; {BETA}", tune=(0.5, 1.0, 2.0))
    inner: Inner = knob("dyn_ce", "release; trades_kl: AWP release; gt_ce: ours")  # noqa: RUF009 (frozen)
    extra_clean_forward: bool = knob(True, "release: an unused target(x) moves the deployed batch-norm statistics")
    guide_lead: int = knob(0, "ours (release: 0): epochs in which the guide trains alone, before its labels are used")
    card = Card(
        name="dynat",
        label="DYNAT",
        title="Dynamic Label Adversarial Training for Deep Learning Robustness Against Adversarial Attacks",
        authors="Liu, Zhenyu and Duan, Haoran and Liang, Huizhi and Long, Yang and Snasel, Vaclav "
        "and Nicosia, Guiseppe and Ranjan, Rajiv and Ojha, Varun",
        venue="ICONIP",
        year=2024,
        url="https://arxiv.org/abs/2408.13102",
        key="liu2024dynamic",
        code="https://github.com/lusti-Yu/Dynamic-label",
        family="two networks",
        forwards=27,
        recipe=Recipe(lr=0.1, weight_decay=2e-4, epochs=100, drops=(75, 90)),
        differs=(ONCE, GUIDE, FIRST),
    )

    def __post_init__(self) -> None:
        """Refuse a negative weight and an unknown inner objective."""
        if not 0 <= self.beta < inf or self.inner not in get_args(Inner):
            raise ValueError(f"beta must be 0 or more, and inner one of {', '.join(get_args(Inner))}")
        if self.guide_lead < 0:
            raise ValueError("guide_lead must be 0 or more epochs")

    def notes(self, epochs: int, steps: int) -> tuple[str, ...]:
        """Say where training is too short for the target to unlearn what it learnt from an untrained guide."""
        if self.guide_lead or steps >= ENOUGH:
            return super().notes(epochs, steps)
        return (*self.card.notes, f"first learns the constant labels of an untrained guide; {steps} steps are few")

    def build(self, task: Task) -> TwoNetworks:
        """Train a target and a guide."""
        return TwoNetworks(task.network(), task.guide())

    def loss(self, nets: TwoNetworks, batch: Batch, step: Step) -> Tensor:
        """Return the guide's clean cross-entropy plus the target's on the guide's decisions."""
        z_g = nets.guide(batch.x)
        if step.epoch < self.guide_lead:
            return ce_mean(z_g, batch.y)
        z_adv = nets.target(craft(self.inner, nets, batch, z_g, step))
        if self.extra_clean_forward:
            with torch.no_grad():
                nets.target(batch.x)
        return ce_mean(z_g, batch.y) + self.beta * ce_mean(z_adv, z_g.argmax(dim=1))


@dataclass(frozen=True)
class DYNATAWP(Method[TwoNetworks]):
    """L = CE(z_g(x), y) + beta CE(z_s(x'), ŷ) + KL(p_s(x) || p_s(x')) at perturbed weights of the target.

    x' = argmax KL(p_s(x) || p_s(x')); the weights are moved up CE(z_s(x), y) + ascent_beta KL(p_s(x) || p_s(x')).
    """

    beta: float = knob(0.2, f"AWP release; {BETA}", tune=(0.1, 0.2, 0.5))
    gamma: float = knob(0.005, "AWP release: size of the perturbation of a layer relative to its norm")
    ascent_beta: float = knob(6.0, "AWP release")
    warmup: float = knob(9 / 100, "AWP release (epoch 10 of 100, counted from 1): fraction of training unperturbed")
    card = replace(
        DYNAT.card,
        name="dynat_awp",
        label="DYNAT-AWP",
        forwards=(30, 36),
        differs=(
            GUIDE,
            FIRST,
            "The guide is forwarded once, before crafting (the release: twice, after it): the same logits.",
            "The release's script refers to an undefined function and does not run; its loss and constants are used.",
        ),
    )

    def __post_init__(self) -> None:
        """Refuse negative weights and a warm-up that is no fraction."""
        if not (
            all(0 <= weight < inf for weight in (self.beta, self.gamma, self.ascent_beta)) and 0 <= self.warmup <= 1
        ):
            raise ValueError("beta, gamma and ascent_beta must be 0 or more, and warmup in [0, 1]")

    def build(self, task: Task) -> TwoNetworks:
        """Train a target and a guide."""
        return TwoNetworks(task.network(), task.guide())

    def outer(self, nets: TwoNetworks, batch: Batch, z_g: Tensor, x_adv: Tensor) -> Tensor:
        """Return the loss at whatever the weights of the target are."""
        z_adv, z = nets.target(x_adv), nets.target(batch.x)
        return ce_mean(z_g, batch.y) + self.beta * ce_mean(z_adv, z_g.argmax(dim=1)) + kl_mean(z, z_adv)

    def loss(self, nets: TwoNetworks, batch: Batch, step: Step) -> Tensor:
        """Return the loss at unperturbed weights."""
        z_g = nets.guide(batch.x)
        return self.outer(nets, batch, z_g, craft("trades_kl", nets, batch, z_g, step))

    def update(self, nets: TwoNetworks, batch: Batch, step: Step) -> None:
        """Take the step from perturbed weights of the target, then subtract the perturbation."""
        z_g = nets.guide(batch.x)
        x_adv = craft("trades_kl", nets, batch, z_g, step)

        def ascent() -> Tensor:
            z_adv, z = nets.target(x_adv), nets.target(batch.x)
            return ce_mean(z, batch.y) + self.ascent_beta * kl_mean(z, z_adv)

        gamma = self.gamma if step.progress >= self.warmup else 0.0
        perturbed_step(step, nets.target, lambda: self.outer(nets, batch, z_g, x_adv), gamma, ascent)
