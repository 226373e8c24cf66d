"""Lists of images in official protocols: a subset that is the same for everybody, whatever their folders hold."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources

import numpy as np

from advbench.benchmark.data.sources import DataError, Labelled, Raw, manifest_digest
from advbench.benchmark.protocol import Data, ImageList

FOLDER = resources.files("advbench.benchmark.protocols")


def chosen(raw: Raw, spec: Data) -> Raw:
    """Return what a protocol uses of a set: the images of its lists, averaged if it says so.

    Where both lists say what their images contain, that decides whether the data are verified, and whoever has these
    images has the same digest, however many others lie beside them.

    Raises:
        DataError: if a list does not fit the set, or the images cannot be averaged.
    """
    if raw.test is None and spec.test_list:
        raise DataError(f"{spec.name} has no official test set that data.test_list could be of: leave it out")
    train = listed(raw.train, raw.names.get("train", ()), spec.train_list)
    test = None if raw.test is None else listed(raw.test, raw.names.get("test", ()), spec.test_list)
    due = tuple(each.content if each else None for each in (spec.train_list, spec.test_list))
    if test is not None and all(due):
        found = (content(train), content(test))
        notes = () if found == due else ("unverified data: the images of the lists are not the protocol's",)
        digest = manifest_digest(zip(found, ("train", "test"), strict=True))
        raw = replace(raw, verified=not notes, notes=notes, digest=digest)
    if spec.side is not None:
        train = averaged(train, spec.side)
        test = None if test is None else averaged(test, spec.side)
    return replace(raw, train=train, test=test)


def content(images: Labelled) -> str:
    """Return the sha256 of pixels (N, H, W, C) uint8, then labels as little-endian 64-bit integers."""
    digest = hashlib.sha256(np.ascontiguousarray(images.x).data)
    digest.update(images.y.astype("<i8").tobytes())
    return digest.hexdigest()


def listed(images: Labelled, names: Sequence[str], wanted: ImageList | None) -> Labelled:
    """Return the images that a list names, in its order; all of them without a list.

    Args:
        images: the whole set, in its official order.
        names: "wnid/file name" of each image, where the set consists of files: its lists hold such names, one a line.
            Those of other sets hold indices into the official order.
        wanted: the list.

    Raises:
        DataError: if the list is not the one that the protocol means, or an image of it is not there.
    """
    if wanted is None:
        return images
    try:
        content = FOLDER.joinpath(wanted.file).read_bytes()
    except OSError as error:
        raise DataError(f"{wanted.file}: no such list beside the published protocols ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise DataError(f"{wanted.file}: not the list that the protocol means (its sha256 is another)")
    lines = content.decode("ascii").split()
    place = {name: at for at, name in enumerate(names or map(str, range(len(images.y))))}
    missing = [line for line in lines if line not in place]
    if missing:
        raise DataError(f"{len(missing)} of {len(lines)} images of {wanted.file} are not here, such as {missing[0]}")
    if len(set(lines)) != wanted.images or len(lines) != wanted.images:
        raise DataError(f"{wanted.file}: the protocol says {wanted.images} different images, it has {len(set(lines))}")
    index = np.array([place[line] for line in lines], dtype=np.int64)
    return Labelled(images.x[index], images.y[index])


def averaged(images: Labelled, side: int) -> Labelled:
    """Return square images averaged over areas of equal size, rounded to the nearest level, halves to the even one.

    Raises:
        DataError: if the images are smaller, or no whole number of areas fits.
    """
    count, height, width, channels = images.x.shape
    factor = height // side
    if height != width or factor * side != height:
        raise DataError(f"data.side = {side}: images of {height}×{width} pixels cannot be averaged to it: leave it out")
    total = np.zeros((count, side, side, channels), dtype=np.uint32)
    for row in range(factor):  # pixel by pixel of an area: the whole set as large integers would not fit into memory
        for column in range(factor):
            total += images.x[:, row::factor, column::factor]
    return Labelled(np.rint(total / factor**2).astype(images.x.dtype), images.y)
