"""Random streams: every one is derived from the run's seed, and none leaves a trace in torch's global state."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the 63-bit seed of one random stream of a run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()[:8], "big") >> 1


@contextmanager
def isolated_rng(device: torch.device) -> Iterator[None]:
    """Leave torch's global random state as it was found."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
