"""Tiny ImageNet: decoded once into memory, every file compared with the official ones."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock
from numpy.typing import NDArray

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
from advbench.benchmark.data.sources import DataError, Labelled, Raw, manifest_digest, user_cache

log = logging.getLogger(__name__)
CACHE = ".advbench-decoded"
OFFICIAL = {
    "train": "c8d8d1cd9d9691c52a4dfdb26388562e0d0e97b1774f90f2d9cff0c381df7356",
    "val": "f07e1d1c9c1c86544965f2623837c2f922ab59418ed36934b37b3f0ebffba148",
}
"""Digests of the 100,000 training and the 10,000 validation files; `Decoded.digest` says of what. Stanford publishes no
checksums: these were taken from two public copies of the unpacked archive (seshuad/IMagenet and rangeetpan/IMagenet on
GitHub, equal but perhaps not independent), not from the archive itself."""
PER_CLASS = {"train": 500, "val": 50}


@dataclass(frozen=True)
class Decoded:
    """The pixels of a listing.

    Attributes:
        pixels: (N, H, W, 3) uint8, memory-mapped where a cache could be written.
        digest: manifest digest of (sha256 of the file, "wnid/file name"): content and labels, whatever the layout.
        grey: how many files are greyscale.
    """

    pixels: NDArray[np.uint8]
    digest: str
    grey: int


def _decode(listing: Listing, side: int, out: NDArray[np.uint8]) -> tuple[str, int]:
    """Decode all images into `out`; return digest and number of greyscale files."""

    def decoded(i: int) -> tuple[str, bool]:
        image, content, grey = read_image(listing.paths[i])
        if image.size != (side, side):
            found = f"{image.size[0]}×{image.size[1]}"
            raise DataError(f"{listing.paths[i]}: {found} pixels instead of {side}×{side}: replace the file")
        out[i] = np.asarray(image)
        return hashlib.sha256(content).hexdigest(), grey

    with ThreadPoolExecutor(workers()) as pool:
        try:
            results = list(pool.map(decoded, range(len(listing.paths))))
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    digest = manifest_digest((sha256, name) for (sha256, _), name in zip(results, listing.names, strict=True))
    return digest, sum(grey for _, grey in results)


def _key(listing: Listing) -> str:
    """Identify a listing by names, sizes and times of its files, and by what decodes them."""
    digest = hashlib.sha256(f"Pillow {PIL.__version__}\n".encode())
    for path, name in zip(listing.paths, listing.names, strict=True):
        status = path.stat()
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _load(entry: Path, shape: tuple[int, ...]) -> Decoded | None:
    """Return a cached decoding, or None if it is not there or torn."""
    try:
        saved = json.loads((entry / "decoded.json").read_text(encoding="utf-8"))
        pixels = np.load(entry / "pixels.npy", mmap_mode="c", allow_pickle=False)
        if pixels.shape != shape or pixels.dtype != np.uint8:
            return None
        return Decoded(pixels, str(saved["digest"]), int(saved["grey"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def decode(listing: Listing, side: int, cache: Path) -> Decoded:
    """Decode a listing of side×side images, or find it decoded in `cache` from an earlier time.

    The cache entry appears in one piece, when it is complete; processes that need the same one wait for the first. A
    cache that cannot be written costs a decoding each time, and a warning.

    Raises:
        DataError: if an image cannot be decoded or has another size.
    """
    shape = (len(listing.paths), side, side, 3)
    entry = cache / _key(listing)
    if (found := _load(entry, shape)) is not None:
        return found
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{entry.name}.lock"):
            if (found := _load(entry, shape)) is not None:
                return found
            log.info("decoding %d images, once; kept in %s", len(listing.paths), entry)
            partial = Path(tempfile.mkdtemp(prefix="partial-", dir=cache))
            try:
                pixels = np.lib.format.open_memmap(partial / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
                digest, grey = _decode(listing, side, pixels)
                pixels.flush()
                del pixels  # Windows renames no folder with a mapped file
                saved = {"digest": digest, "grey": grey, "pillow": PIL.__version__}
                (partial / "decoded.json").write_text(json.dumps(saved), encoding="utf-8")
                shutil.rmtree(entry, ignore_errors=True)
                partial.rename(entry)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        if (found := _load(entry, shape)) is not None:
            return found
        log.warning("%s cannot be read back: the images are decoded each time", entry)
    except OSError as error:
        log.warning("%s cannot be written (%s): the images are decoded each time", cache, error.strerror)
    in_memory = np.empty(shape, dtype=np.uint8)
    return Decoded(in_memory, *_decode(listing, side, in_memory))


def listings(root: Path) -> tuple[tuple[str, ...], dict[str, Listing]]:
    """Return the wnids and the files of "train" and "val", after checking that every class is there.

    Raises:
        DataError: if a class, an image or a label is missing or out of range; the line names it.
    """
    known = KNOWN["tinyimagenet"]
    folder = root / known.folder
    wnids = read_wnids(folder)
    if len(wnids) != known.num_classes:
        raise DataError(f"{folder}: class missing: {len(wnids)} classes instead of {known.num_classes}")
    return wnids, {"train": by_class(folder / "train", wnids), "val": validation(folder, wnids)}


def shortfall(part: str, listing: Listing) -> str:
    """Say how many images a class "train" or "val" has if that is not the official number; else an empty string."""
    counted = counts(listing)
    least, most = counted["smallest_class"], counted["largest_class"]
    if (least, most) == (PER_CLASS[part], PER_CLASS[part]):
        return ""
    return f"{least if least == most else f'{least} to {most}'} of {PER_CLASS[part]} {part} images a class"


def inspect(root: Path) -> tuple[bool, str]:
    """Return whether all official images are there by number, and a line about it; no file is opened."""
    short = [text for part, listing in listings(root)[1].items() if (text := shortfall(part, listing))]
    return not short, "; ".join(short) or "complete by number; every file is compared when the set is first loaded"


def tiny_imagenet(root: Path) -> Raw:
    """Read tiny-imagenet-200 with its labelled `val` as the test set; greyscale files become RGB.

    Verified when every file is the official one; with fewer images a class the counts are recorded. Digest: manifest
    of the digests of the training part and of `val`.

    Raises:
        DataError: if a class, an image or a label is missing or wrong; the line names it.
    """
    known = KNOWN["tinyimagenet"]
    wnids, listed = listings(root)
    cache = (root if os.access(root, os.W_OK) else user_cache()) / CACHE
    decoded = {part: decode(listing, known.shape[1], cache) for part, listing in listed.items()}
    notes = [
        f"unverified data: {shortfall(part, listed[part]) or f'files of {part} differ from the official ones'}"
        for part in listed
        if decoded[part].digest != OFFICIAL[part]
    ]
    train, val = (Labelled(decoded[part].pixels, listed[part].labels) for part in ("train", "val"))
    return Raw(
        train=train,
        test=val,
        classes=class_names(root / known.folder, wnids),
        source=f"folder {known.folder}",
        verified=not notes,
        digest=manifest_digest((decoded[part].digest, part) for part in listed),
        notes=tuple(notes),
        names={"train": listed["train"].names, "test": listed["val"].names},
        extra={
            part: {**counts(listing), "greyscale": decoded[part].grey, "digest": decoded[part].digest}
            for part, listing in listed.items()
        },
    )
