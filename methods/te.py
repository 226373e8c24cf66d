"""TE: Exploring Memorization in Adversarial Training (Dong et al., ICLR 2022): temporal ensembling of predictions.

https://openreview.net/forum?id=7gE9V9GBZaI
"""

from dataclasses import dataclass, replace
from math import exp, inf

import torch
from torch import Tensor

from advbench.benchmark.losses import ce_mean, ce_sum, kl_mean, kl_sum, mse_elements, softmax
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob


@dataclass(frozen=True)
class TE(Method[OneNetwork]):
    """L = CE(z(x'), y) + w mean_{B,C} (p(x') − t)², x' = argmax of it; t = e / Σ e, e ← decay e + (1 − decay) p(x)."""

    weight: float = knob(
        300.0,
        "release, at every C; here times C/10 (ours: the mean over classes shrinks with C)",
        tune=(100.0, 300.0, 1000.0),
    )
    decay: float = knob(0.9, "release")
    start: float = knob(89 / 200, "release: epoch 90 of 200, counted from 1; w rises as weight·exp(−5 (1 − ramp)²)")
    end: float = knob(149 / 200, "release: epoch 150 of 200, counted from 1; w = weight from here on")
    card = Card(
        name="te",
        label="PGD-TE",
        title="Exploring Memorization in Adversarial Training",
        authors="Dong, Yinpeng and Xu, Ke and Yang, Xiao and Pang, Tianyu and Deng, Zhijie and Su, Hang and Zhu, Jun",
        venue="ICLR",
        year=2022,
        url="https://openreview.net/forum?id=7gE9V9GBZaI",
        key="dong2022exploring",
        code="https://github.com/dongyp13/memorization-AT",
        family="label refinement",
        forwards=(23, 24),
        differs=("The clean forward that feeds the memory begins with it; the release makes it from the start.",),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.weight < inf or not 0 <= self.decay < 1 or not 0 <= self.start < self.end <= 1:
            raise ValueError("weight must be 0 or more and finite, decay in [0, 1), and 0 <= start < end <= 1")

    def build(self, task: Task) -> OneNetwork:
        """Train one network and remember what it said of each training image: nothing, before its first visit."""
        nets = OneNetwork(task.network())
        nets.register_buffer("memory", torch.zeros(len(task.labels), task.num_classes).to(next(nets.parameters())))
        return nets

    def ramp(self, progress: float) -> float:
        """Return the share of `weight` in force: 0, then exp(-5) rising to 1."""
        if progress < self.start:
            return 0.0
        left = max(0.0, (self.end - progress) / (self.end - self.start))
        return exp(-5.0 * left**2)

    def penalty(self, logits: Tensor, t: Tensor | None, step: Step) -> Tensor:
        """Return w · mean over images and classes of (softmax(logits) − t)², 0 as long as there is no memory."""
        if t is None:
            return logits.new_zeros(())
        weight = self.weight * logits.shape[1] / 10 * self.ramp(step.progress)
        return weight * mse_elements(softmax(logits), t)

    def remember(self, nets: OneNetwork, batch: Batch, clean: Tensor) -> Tensor:
        """Mix the predictions of this visit into the memory and return t, normalised."""
        memory = nets.get_buffer("memory")
        e = self.decay * memory[batch.index] + (1 - self.decay) * softmax(clean)
        memory[batch.index] = e
        return e / e.sum(dim=1, keepdim=True)

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return cross-entropy and penalty on adversarial images."""
        x, y, _ = batch
        t = self.remember(nets, batch, step.predict(nets.target, x)) if step.progress >= self.start else None

        def objective(x_adv: Tensor) -> Tensor:
            logits = nets.target(x_adv)
            return ce_sum(logits, y) + len(x) * self.penalty(logits, t, step)

        logits = nets.target(step.craft(x, objective))
        return ce_mean(logits, y) + self.penalty(logits, t, step)


@dataclass(frozen=True)
class TRADESTE(TE):
    """L = CE(z(x), y) + beta KL(p(x) || p(x')) + w mean (p(x) − t)².

    x' = argmax beta KL(p(x) || p(x')) + w mean (p(x') − t)².
    """

    beta: float = knob(6.0, "release", tune=(1.0, 3.0, 6.0, 9.0))
    card = replace(TE.card, name="trades_te", label="TRADES-TE", forwards=27, differs=())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < inf:
            raise ValueError("beta must be 0 or more and finite")

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the TRADES loss and the penalty on clean images; one clean prediction serves memory and attack."""
        x, y, _ = batch
        reference = step.predict(nets.target, x)
        t = self.remember(nets, batch, reference) if step.progress >= self.start else None

        def objective(x_adv: Tensor) -> Tensor:
            logits = nets.target(x_adv)
            return self.beta * kl_sum(reference, logits) + len(x) * self.penalty(logits, t, step)

        x_adv = step.craft(x, objective, start="gaussian")
        z, z_adv = nets.target(x), nets.target(x_adv)
        return ce_mean(z, y) + self.beta * kl_mean(z, z_adv) + self.penalty(z, t, step)
