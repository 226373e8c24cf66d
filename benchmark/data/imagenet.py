"""A user's ImageNet folder: too large for memory, so every batch is decoded when it is due, a little ahead."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advbench.benchmark.data.augmentation import resized_crop_box
from advbench.benchmark.data.image_folders import (
    Listing,
    by_class,
    class_names,
    counts,
    read_image,
    read_wnids,
    validation,
    workers,
)
from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.data.sources import manifest_digest
from advbench.benchmark.data.splits import Indices, Minibatch, Split, in_turn

RESIZE, CROP = 256, 224
AHEAD = 2
"""Batches decoded ahead of the one that is used."""
DRAWS = 41
"""Uniform draws for one training image: 40 for its crop, one for the flip."""


@dataclass(frozen=True)
class Folder:
    """An ImageNet folder whose structure was checked, its images not opened.

    Attributes:
        digest: manifest digest of (size of the file in bytes, name): the contents are not read.
        verified: never, for that reason.
    """

    train: Listing
    val: Listing
    classes: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]
    extra: dict[str, Any]
    source: str = "folder imagenet"
    verified: bool = False


def read_folder(root: Path) -> Folder:
    """List imagenet/{train,val} and check that every class is there.

    Raises:
        DataError: if a class, an image or a label is missing or wrong; the line names it.
    """
    folder = root / KNOWN["imagenet"].folder
    wnids = read_wnids(folder)
    train, val = by_class(folder / "train", wnids), validation(folder, wnids)
    entries = [
        (str(path.stat().st_size), f"{part}/{name}")
        for part, listing in (("train", train), ("val", val))
        for path, name in zip(listing.paths, listing.names, strict=True)
    ]
    found = (len(wnids), len(train.paths), len(val.paths))
    notes = ["unverified data: names and sizes of the files are recorded, their contents are not read"]
    if found != (KNOWN["imagenet"].num_classes, *KNOWN["imagenet"].images):
        notes.append(f"not the whole of ImageNet: {found[0]} classes, {found[1]} training and {found[2]} val images")
    extra = {"train": counts(train), "val": counts(val)}
    return Folder(train, val, class_names(folder, wnids), manifest_digest(entries), tuple(notes), extra)


def training_view(path: Path, draws: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Decode an image with random resized crop and flip, as 41 uniform draws have it; (224, 224, 3)."""
    image, _, _ = read_image(path)
    box = resized_crop_box(*image.size, draws[:-1].tolist())
    # Cropped first, as torchvision does: `resize(box=…)` would let pixels beyond the box bleed in at its edges.
    crop = np.asarray(image.crop(box).resize((CROP, CROP), Image.Resampling.BILINEAR))
    return crop[:, ::-1] if draws[-1] < 0.5 else crop


def test_view(path: Path) -> NDArray[np.uint8]:
    """Decode an image, its shorter side resized to 256, and crop the centre; (224, 224, 3)."""
    image, _, _ = read_image(path)
    width, height = image.size
    short = min(width, height)
    size = (RESIZE * width // short, RESIZE * height // short)
    left, top = round((size[0] - CROP) / 2), round((size[1] - CROP) / 2)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + CROP, top + CROP)))


class OnDisk(Split):
    """A split of image files, decoded by threads while the network works."""

    def __init__(self, listing: Listing, chosen: NDArray[np.int64], *, device: torch.device | str = "cpu") -> None:
        """Take the images of `listing` at `chosen`."""
        self.paths = [listing.paths[i] for i in chosen]
        self.labels = torch.from_numpy(listing.labels[chosen]).to(device)
        self._scale = torch.tensor(255.0, device=self.labels.device)

    def _stream(self, batches: Iterator[tuple[Tensor, NDArray[np.float64] | None]]) -> Iterator[Minibatch]:
        """Turn (indices, draws of each image or None) into minibatches, `AHEAD` of them in the making."""
        pool = ThreadPoolExecutor(workers())
        waiting: deque[tuple[Tensor, list[Future[NDArray[np.uint8]]]]] = deque()
        try:
            for index, draws in batches:
                paths = [self.paths[i] for i in index.tolist()]
                if draws is None:
                    views = [pool.submit(test_view, path) for path in paths]
                else:
                    views = [pool.submit(training_view, path, own) for path, own in zip(paths, draws, strict=True)]
                waiting.append((index, views))
                if len(waiting) > AHEAD:
                    yield self._finished(*waiting.popleft())
            while waiting:
                yield self._finished(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _finished(self, index: Tensor, views: list[Future[NDArray[np.uint8]]]) -> Minibatch:
        pixels = torch.from_numpy(np.stack([view.result() for view in views])).to(self.labels.device)
        index = index.to(self.labels.device)
        x = pixels.permute(0, 3, 1, 2).float().div_(self._scale)
        return x, self.labels[index], index

    def batches(self, size: int, indices: Indices = None) -> Iterator[Minibatch]:
        """Yield images in order, resized to 256 and cropped to 224 at the centre; see `Split.batches`."""
        for x, y, index in self._stream((part, None) for part in in_turn(self.chosen(indices), size)):
            yield x.contiguous(), y, index

    def epoch(self, size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """Yield one epoch of random resized crops and flips; see `Split.epoch`.

        Each batch has its own seed, drawn here, so that decoding ahead leaves `generator` where it would be without.
        """
        order = list(in_turn(self.permuted(size, generator), size))
        seeds = torch.randint(0, 2**62, (len(order),), generator=generator).tolist()

        def draws(seed: int) -> NDArray[np.float64]:
            own = torch.Generator().manual_seed(seed)
            drawn: NDArray[np.float64] = torch.rand((size, DRAWS), generator=own, dtype=torch.float64).numpy()
            return drawn

        return self._stream((index, draws(seed)) for index, seed in zip(order, seeds, strict=True))
