"""Splits: labelled images on a device that come as batches, in order or as an augmented epoch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advbench.benchmark.data.augmentation import autoaugment, crop_flip, cutmix
from advbench.benchmark.data.sources import DataError, Labelled

Augment = Literal["crop-flip", "none", "resized-crop-flip", "autoaugment", "cutmix"]
Indices = Tensor | Sequence[int] | None


Minibatch = tuple[Tensor, Tensor, Tensor]
"""Images (B, C, H, W) float32 in [0,1], labels (B,) int64, and their indices (B,) int64 into the split."""


def in_turn(index: Tensor, size: int) -> Iterator[Tensor]:
    """Cut (N,) into parts of `size`, the last one may be short; torch's own split makes an empty part of nothing."""
    return (index[start : start + size] for start in range(0, len(index), size))


class Split(ABC):
    """Labelled images. `labels` (N,) int64 lies on the device, and so does every batch."""

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batches(self, size: int, indices: Indices = None) -> Iterator[Minibatch]:
        """Yield all images, or those at `indices`, in order, not augmented, contiguous; the last batch may be short."""

    def take(self, indices: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the images (n, C, H, W) and labels (n,) at `indices`, in one batch."""
        x, y, _ = next(self.batches(max(1, len(indices)), indices))
        return x, y

    @abstractmethod
    def epoch(self, size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """Yield one epoch of training: permuted, augmented, the last incomplete batch dropped.

        Every draw is taken from `generator`, which lives on the CPU, so that all devices see the same epoch.

        Raises:
            DataError: if there is not even one batch.
        """

    def chosen(self, indices: Indices) -> Tensor:
        """Return `indices` (None: all) as int64 on the device.

        Raises:
            DataError: if one is out of range; negative ones are not counted from the end.
        """
        device = self.labels.device
        if indices is None:
            return torch.arange(len(self), device=device)
        index = torch.as_tensor(indices, dtype=torch.int64, device=device)
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= len(self)):
            raise DataError(f"indices {int(index.min())} … {int(index.max())} reach beyond the {len(self)} images")
        return index

    def permuted(self, size: int, generator: torch.Generator) -> Tensor:
        """Return the order of an epoch, (batches · size,) on the CPU."""
        count = len(self) // size
        if not count:
            raise DataError(f"{len(self)} training images are fewer than one batch of {size}: lower training.batch")
        return torch.randperm(len(self), generator=generator)[: count * size]


class InMemory(Split):
    """A split whose images lie on the device as uint8 (N, H, W, C): no loader, no copy from the host in an epoch."""

    def __init__(
        self,
        images: Labelled,
        chosen: NDArray[np.int64],
        *,
        scale: int = 255,
        augment: Augment = "none",
        pad: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take the images at `chosen`.

        Args:
            images: the whole set.
            chosen: (N,) indices into it.
            scale: pixel value that means 1.0.
            augment: what `epoch` does; not "resized-crop-flip".
            pad: pixels of zero padding before the crop.
            device: where they shall lie.
        """
        if augment == "resized-crop-flip":
            raise DataError('data.augment = "resized-crop-flip" is for imagenet: take "crop-flip" or "none"')
        self.augment, self.pad = augment, pad
        self.images = torch.from_numpy(images.x[chosen]).to(device)
        self.labels = torch.from_numpy(images.y[chosen]).to(device)
        # A tensor on the device: a GPU divides by it exactly, but multiplies by the reciprocal of a Python number.
        self._scale = torch.tensor(float(scale), device=self.images.device)

    def _scaled(self, pixels: Tensor) -> Tensor:
        """Turn uint8 (B, H, W, C) into float32 (B, C, H, W) in [0,1], channels last in memory."""
        return pixels.permute(0, 3, 1, 2).float().div_(self._scale)

    def batches(self, size: int, indices: Indices = None) -> Iterator[Minibatch]:
        """Yield images in order; see `Split.batches`."""
        for index in in_turn(self.chosen(indices), size):
            yield self._scaled(self.images[index]).contiguous(), self.labels[index], index

    def epoch(self, size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """Yield one augmented epoch; see `Split.epoch`. Its draws move to the device once: no step waits for them."""
        order = self.permuted(size, generator)
        if self.augment == "none":
            for index in in_turn(order.to(self.labels.device), size):
                yield self._scaled(self.images[index]), self.labels[index], index
            return
        shift = torch.randint(0, 2 * self.pad + 1, (2, len(order)), generator=generator)
        flip = torch.randint(0, 2, (len(order),), generator=generator) == 1
        batches = len(order) // size if self.augment == "autoaugment" else 0
        seeds = torch.randint(2**62, (batches,), generator=generator).tolist()
        mix = torch.rand((3, len(order)), generator=generator) if self.augment == "cutmix" else shift
        order, shift, flip, mix = (draws.to(self.labels.device) for draws in (order, shift, flip, mix))
        for start in range(0, len(order), size):
            part = slice(start, start + size)
            index = order[part]
            pixels = crop_flip(self.images, index, shift[:, part], flip[part], self.pad)
            if self.augment == "autoaugment":
                pixels = autoaugment(pixels, seeds[start // size])
            elif self.augment == "cutmix":
                pixels = cutmix(pixels, mix[:, part])
            yield self._scaled(pixels), self.labels[index], index
