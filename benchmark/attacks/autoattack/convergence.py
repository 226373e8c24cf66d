"""Attacks beyond AutoAttack, which say whether its figure has converged: more of APGD-T, and a loss from outside.

APGD-T with five times AutoAttack's iterations, five restarts and the three nearest classes costs 15,000F an image,
where AutoAttack costs a survivor 9,800F (5,200F where Square computes only what changes): a sample of one image in
twenty-five adds less than a tenth to AutoAttack's passes. The loss from outside costs 1,000F; it is the probability
margin max_{j≠y} p_j − p_y (Xie et al., arXiv 2411.15210), here ascended by APGD.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advbench.benchmark.attacks.autoattack.apgd import Apgd
from advbench.benchmark.attacks.autoattack.draws import ImageDraws
from advbench.benchmark.attacks.autoattack.engine import batch_for
from advbench.benchmark.attacks.autoattack.loss_vectors import Loss, probability_margin, targeted_dlr
from advbench.benchmark.attacks.autoattack.network_view import NetworkView
from advbench.benchmark.attacks.autoattack.rows import Findings, Pairs, drive
from advbench.benchmark.attacks.ball import Ball

BEYOND = ("apgd-t", "probability-margin")
"""The attacks."""


@dataclass(frozen=True)
class Effort:
    """How hard to try: target classes and restarts of APGD-T, iterations of both attacks."""

    targets: int
    restarts: int
    iterations: int

    def settings(self) -> dict[str, Any]:
        """Describe the attacks for a record."""
        return {**vars(self), "attacks": list(BEYOND)}


def propose(
    view: NetworkView, x: Tensor, y: Tensor, attack: str, *, ball: Ball, effort: Effort, key: str, images: Sequence[int]
) -> Tensor:
    """Return what one of `BEYOND` found for each image, the clean image where it found nothing.

    Args:
        view: the network.
        x: images (n, C, H, W) in [0,1].
        y: labels (n,), all of them predicted.
        attack: the attack.
        ball: where the adversary may move.
        effort: how hard to try.
        key: what stands for protocol and run; draws are by it, attack, image and restart.
        images: test index of each image.
    """
    loss: Loss = targeted_dlr if attack == "apgd-t" else probability_margin
    capacity = batch_for(x.shape[1:])
    targets, restarts = (effort.targets, effort.restarts) if attack == "apgd-t" else (1, 1)
    ranked = torch.cat([view.logits(part) for part in torch.split(x, capacity)]).sort(dim=1).indices.flip(1)
    image = torch.arange(len(x), device=x.device).repeat(targets * restarts)
    draw = torch.arange(targets * restarts, device=x.device).repeat_interleave(len(x))
    pairs = Pairs(image, ranked[image, 1 + draw % targets], draw)
    draws = ImageDraws(key, f"convergence|{attack}", images)
    findings = Findings.none(x, view.tolerance)
    apgd = Apgd(
        view,
        x,
        y,
        norm=ball.norm,
        eps=ball.eps,
        loss=loss,
        start=lambda some: draws.noise(some.image, some.rank, x.shape[1:], ball.norm),
        iterations=effort.iterations,
    )
    drive(apgd, pairs, findings, capacity=capacity)
    return findings.x_adv
