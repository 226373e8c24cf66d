"""Validation: clean accuracy and accuracy under the PGD that selects the best checkpoint."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.data.registry import Split
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models.torch_state import evaluating
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.training.seeding import derive

VALIDATION_BATCH = 500
Loss = Callable[[Tensor, Tensor], Tensor]
MEASURES: dict[str, tuple[Loss, ...]] = {"ce": (ce_sum,), "worst": (ce_sum, margin_sum)}
"""What PGD ascends under each measure of a protocol's selection, logits (B, C) and labels (B,) in, a sum out."""


def _ascended(net: nn.Module, loss: Loss, y: Tensor, x_adv: Tensor) -> Tensor:
    return loss(net(x_adv), y)


@torch.no_grad()
def accuracies(
    net: nn.Module, split: Split, protocol: Protocol, *, measure: str, images: int | None = None
) -> tuple[float, ...]:
    """Return accuracies of `net` in fp32: clean, under PGD on the measure's first loss, under that and the next, ….

    Starts are fixed over epochs, and the losses share them.

    Args:
        net: left in the mode in which it was found.
        split: images that are not augmented here.
        protocol: threat, and steps of the selection.
        measure: one of `MEASURES`.
        images: as many, evenly spaced (folders are sorted by class); None: all.
    """
    count = len(split) if images is None else min(images, len(split))
    ball, step = Ball(protocol.threat.norm, float(protocol.threat.eps)), float(protocol.selection.step)
    device = split.labels.device
    totals = torch.zeros(1 + len(MEASURES[measure]), device=device)
    generator = torch.Generator(device).manual_seed(derive(0, "validation"))
    with evaluating(net):
        for x, y, _ in split.batches(VALIDATION_BATCH, torch.arange(count) * len(split) // count):
            right = net(x).argmax(1) == y
            start = ball.random(x, generator)
            counts = [right.sum()]
            for loss in MEASURES[measure]:
                objective = partial(_ascended, net, loss, y)
                x_adv = ball.ascend(x, start, objective, step=step, steps=protocol.selection.steps)
                right = right & (net(x_adv).argmax(1) == y)
                counts.append(right.sum())
            totals += torch.stack(counts)
    return tuple(float(total) / count for total in totals)
