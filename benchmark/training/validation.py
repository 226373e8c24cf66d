"""Validation: clean accuracy and accuracy under the PGD that selects the best checkpoint."""

from functools import partial

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.sign_ascent import sign_steps, uniform_start
from advbench.benchmark.data.registry import Split
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models.torch_state import evaluating
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.training.seeding import derive

VALIDATION_BATCH = 500


def _cross_entropy(net: nn.Module, y: Tensor, x_adv: Tensor) -> Tensor:
    return ce_sum(net(x_adv), y)


@torch.no_grad()
def accuracies(net: nn.Module, split: Split, protocol: Protocol, images: int | None = None) -> tuple[float, float]:
    """Return clean accuracy of `net` and accuracy under the PGD of the selection, starts fixed over epochs, fp32.

    Args:
        net: left in the mode in which it was found.
        split: images that are not augmented here.
        protocol: threat, and steps of the selection.
        images: as many, evenly spaced (folders are sorted by class); None: all.
    """
    count = len(split) if images is None else min(images, len(split))
    eps, step = float(protocol.threat.eps), float(protocol.selection.step)
    device = split.labels.device
    clean = robust = torch.zeros((), device=device)
    generator = torch.Generator(device).manual_seed(derive(0, "validation"))
    with evaluating(net):
        for x, y, _ in split.batches(VALIDATION_BATCH, torch.arange(count) * len(split) // count):
            right = net(x).argmax(1) == y
            objective = partial(_cross_entropy, net, y)
            start = uniform_start(x, eps, generator)
            x_adv = sign_steps(x, start, objective, eps=eps, step=step, steps=protocol.selection.steps)
            clean = clean + right.sum()
            robust = robust + (right & (net(x_adv).argmax(1) == y)).sum()
    return float(clean) / count, float(robust) / count
