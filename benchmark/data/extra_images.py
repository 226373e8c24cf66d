"""Extra training images of a protocol, such as images of a generative model, mixed into every batch.

Wang et al., "Better Diffusion Models Further Improve Adversarial Training", ICML 2023 (https://arxiv.org/abs/2302.04638)
train on their generated sets so: a fixed share of each batch is extra, and an epoch stays as many batches as the data
set itself has. Their files can be used as they are.
"""

from pathlib import Path

import torch
from torch import Tensor

from advbench.benchmark.data.sources import DataError, Labelled, check_labels, labelled, npz_arrays
from advbench.benchmark.data.splits import InMemory
from advbench.benchmark.files import file_sha256
from advbench.benchmark.protocol import ExtraData

KEYS = ("image", "label")
"""Arrays of the file: N×H×W×C uint8, and N integers."""


def read(wanted: ExtraData, root: Path, shape: tuple[int, ...], num_classes: int) -> Labelled:
    """Read the extra images of a protocol from the data root.

    Args:
        wanted: file, sha256 and number of images.
        root: data root.
        shape: (H, W, C) of the data set's images.
        num_classes: its classes.

    Raises:
        DataError: if they are not there, are not those that the protocol means, or do not fit the data set.
    """
    path = root / wanted.file
    if not path.is_file():
        raise DataError(f"{path}: no extra images, which the protocol trains on: put the file there")
    if file_sha256(path) != wanted.sha256:
        raise DataError(f"{path}: not the extra images that the protocol means (its sha256 is another)")
    arrays = npz_arrays(path)
    if missing := [key for key in KEYS if key not in arrays]:
        raise DataError(f"{path}: no {', '.join(missing)}: it needs the arrays {', '.join(KEYS)}")
    images = labelled(path, arrays, *KEYS)
    if images.x.shape != (wanted.images, *shape):
        asked, found = ("×".join(map(str, each)) for each in ((wanted.images, *shape), images.x.shape))
        raise DataError(f"{path}: image is {found}, protocol and data set want {asked}")
    check_labels(images.y, num_classes, f"{path}: label")
    return images


class Mixed(InMemory):
    """A training split with extra images: of every batch of an epoch a fixed share is extra.

    Its length is that of the data set alone; `labels` and the indices of batches count on through the extra images.
    """

    def __init__(self, images: InMemory, extra: Labelled, *, share: float) -> None:
        """Add extra images to a split; `share` of every batch, rounded, but one image at least of either kind."""
        vars(self).update(vars(images))
        self.own, self.share = len(images), share
        device = images.labels.device
        self.images = torch.cat([images.images, torch.from_numpy(extra.x).to(device)])
        self.labels = torch.cat([images.labels, torch.from_numpy(extra.y).to(device)])

    def __len__(self) -> int:
        return self.own

    def permuted(self, size: int, generator: torch.Generator) -> Tensor:
        """Return the order of an epoch: the data set's images first in every batch, all drawn without repetition."""
        batches = super().permuted(size, generator).view(-1, size)
        count = min(max(round(self.share * size), 1), size - 1)
        need, there = count * len(batches), len(self.labels) - self.own
        rounds = [torch.randperm(there, generator=generator) for _ in range(-(-need // there))]
        batches[:, size - count :] = self.own + torch.cat(rounds)[:need].view(-1, count)
        return batches.flatten()
