"""Folders of JPEGs: which image has which label, checked by name; nothing is decoded before `read_image`.

    tiny-imagenet-200/{wnids.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG, val/val_annotations.txt}
    imagenet/{train/<wnid>/*.JPEG, val/<wnid>/*.JPEG}

Both kinds of class folder and both kinds of `val` are understood for either set, Kaggle's LOC_val_solution.csv too.
Labels are the positions of the wnids in alphabetical order, as torchvision's ImageFolder has them.
"""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advbench.benchmark.data.sources import DataError

SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
ANNOTATIONS = ("val_annotations.txt", "LOC_val_solution.csv")


@dataclass(frozen=True)
class Listing:
    """The images of one part of a folder, ordered by class and name, not yet opened.

    Attributes:
        paths: files.
        labels: (N,) positions in `wnids`.
        names: "wnid/file name", whatever the layout.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    names: tuple[str, ...]


def _images(folder: Path) -> list[Path]:
    """List image files by name; files that begin with a dot are leftovers of other systems."""
    files = (each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES and not each.name.startswith("."))
    return sorted(files, key=lambda each: each.name)


def _listing(found: Sequence[tuple[int, Path]], wnids: Sequence[str]) -> Listing:
    ordered = sorted(found, key=lambda each: (each[0], each[1].name))
    return Listing(
        paths=tuple(path for _, path in ordered),
        labels=np.array([label for label, _ in ordered], dtype=np.int64),
        names=tuple(f"{wnids[label]}/{path.name}" for label, path in ordered),
    )


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders in `folder`, sorted.

    Raises:
        DataError: if there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: missing: it must hold a folder of images for each class")
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def read_wnids(folder: Path) -> tuple[str, ...]:
    """Return the classes of a data set in the order of their labels: wnids.txt, else the folders in train."""
    listed = folder / "wnids.txt"
    if not listed.exists():
        return tuple(class_folders(folder / "train"))
    wnids = listed.read_text(encoding="utf-8").split()
    if len(set(wnids)) != len(wnids):
        raise DataError(f"{listed}: lists a class twice: replace it by the official file")
    return tuple(sorted(wnids))


def by_class(folder: Path, wnids: Sequence[str]) -> Listing:
    """List folder/<wnid>/images/* or folder/<wnid>/*.

    Raises:
        DataError: if a class is missing or empty, or there is a class folder that is not in `wnids`.
    """
    present = class_folders(folder)
    for wnid in wnids:
        if wnid not in present:
            raise DataError(f"{folder / wnid}: class missing ({len(wnids)} classes expected): complete the folder")
    unknown = sorted(set(present) - set(wnids))
    if unknown:
        raise DataError(f"{folder / unknown[0]}: label out of range: {unknown[0]} is none of the {len(wnids)} classes")
    found = []
    for label, wnid in enumerate(wnids):
        inner = folder / wnid / "images"
        images = _images(inner if inner.is_dir() else folder / wnid)
        if not images:
            raise DataError(f"{folder / wnid}: class missing: it holds no image: complete the folder")
        found += [(label, path) for path in images]
    return _listing(found, wnids)


def validation(folder: Path, wnids: Sequence[str]) -> Listing:
    """List the `val` of a data set: flat with a mapping from file to wnid, or by class.

    Raises:
        DataError: if an image has no label or a label out of range, or an image or a class is missing.
    """
    val = folder / "val"
    mapping = next((each / name for each in (val, folder) for name in ANNOTATIONS if (each / name).is_file()), None)
    flat = val / "images" if (val / "images").is_dir() else val
    if mapping is None or not (flat.is_dir() and _images(flat)):
        return by_class(val, wnids)
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    labels: dict[str, int] = {}
    for number, line in enumerate(mapping.read_text(encoding="utf-8").splitlines(), start=1):
        words = re.split(r"[\s,]+", line.strip())
        if words == [""] or words[0] == "ImageId":
            continue
        if len(words) < 2 or words[1] not in label_of:
            named = words[1] if len(words) > 1 else "no class"
            raise DataError(f"{mapping}:{number}: label out of range: {named} is none of the {len(wnids)} classes")
        labels[Path(words[0]).stem] = label_of[words[1]]
    images = {path.stem: path for path in _images(flat)}
    for stem, path in images.items():
        if stem not in labels:
            raise DataError(f"{path}: no label in {mapping.name}: remove the image or complete the file")
    for stem in labels:
        if stem not in images:
            raise DataError(f"{flat / stem}: image missing although {mapping.name} lists it: complete the folder")
    absent = set(range(len(wnids))) - set(labels.values())
    if absent:
        raise DataError(f"{mapping}: class missing: no image of {wnids[min(absent)]}: complete the folder")
    return _listing([(labels[stem], path) for stem, path in images.items()], wnids)


def read_image(path: Path) -> tuple[Image.Image, bytes, bool]:
    """Decode an image file completely; return it as RGB, the file's bytes, and whether it was greyscale.

    Raises:
        DataError: if it is missing, truncated or no image; the line names it.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            grey = image.mode in {"1", "L", "LA"}
            return image.convert("RGB"), content, grey
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: not a readable image ({message}): replace the file") from error


def counts(listing: Listing) -> dict[str, int]:
    """Count the images of a listing, in all and of the smallest and the largest class."""
    sizes = np.bincount(listing.labels)
    return {"images": len(listing.paths), "smallest_class": int(sizes.min()), "largest_class": int(sizes.max())}


def class_names(folder: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """Return "wnid first-synonym" for each class, the wnid alone where words.txt does not know it."""
    words = {}
    if (folder / "words.txt").exists():
        for line in (folder / "words.txt").read_text(encoding="utf-8").splitlines():
            wnid, _, synonyms = line.partition("\t")
            words[wnid] = synonyms.split(",")[0].strip()
    return tuple(f"{wnid} {words[wnid]}" if words.get(wnid) else wnid for wnid in wnids)


def workers() -> int:
    """Return how many threads decode: the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
