"""Random streams: every one is derived from the run's seed."""

import hashlib


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the 63-bit seed of one random stream of a run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()[:8], "big") >> 1
