"""The frozen recipe around a method: random streams, precision, validation, peak memory."""

import hashlib
import logging
import resource
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.sign_ascent import evaluating, sign_steps, uniform_start
from advbench.benchmark.data.registry import Split
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.protocol import Protocol

log = logging.getLogger(__name__)
VALIDATION_BATCH = 500


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the 63-bit seed of one random stream of a run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()[:8], "big") >> 1


def precision(device: torch.device) -> str:
    """Return how networks are computed while training on a device: bf16 autocast where the GPU has it."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return "bf16 autocast"
    return "fp32"


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


class PeakMemory:
    """Peak memory since construction, in bytes: of the device on a GPU, of the process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:  # Linux forgets the high-water mark of the process on request; elsewhere it covers its whole life
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            log.debug("the peak memory covers the whole life of this process")

    def bytes(self) -> int:
        """Return the peak so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
