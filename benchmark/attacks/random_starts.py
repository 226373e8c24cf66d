"""Counter-based random numbers: what an image gets depends on the protocol, the attack family and its index alone.

Neither batch size nor sharding, device or numpy version changes a draw: Philox4x64-10 (Salmon et al., "Parallel Random
Numbers: As Easy as 1, 2, 3", SC 2011) is fixed by its algorithm, and the conversion to float32 is spelt out here.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def uniform(digest: str, family: str, images: Sequence[int], shape: Sequence[int], *, draw: int = 0) -> Tensor:
    """Return U[-1, 1) for each image, float32 on the CPU, (len(images), *shape).

    Args:
        digest: the protocol's digest.
        family: attack family; each has numbers of its own.
        images: test indices.
        shape: (C, H, W).
        draw: which of several independent draws for the same image.
    """
    key = np.frombuffer(hashlib.sha256(f"{digest}|{family}".encode()).digest()[:16], dtype="<u8")
    size = int(np.prod(shape))
    out = np.empty((len(images), size), dtype=np.float32)
    for row, image in enumerate(images):
        # The low words of the counter run within the image; the high words are the image and the draw.
        raw = np.random.Philox(key=key, counter=[0, 0, draw, image]).random_raw(size)
        # 24 bits are what float32 holds exactly: k·2^-23 − 1 for k in [0, 2^24) needs no rounding.
        out[row] = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return torch.from_numpy(out).reshape(len(images), *shape)
