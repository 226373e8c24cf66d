"""Data sets under a protocol: found, checked, split, and laid on the device.

Sources in this order: the official files under the data root (checksums compared), <name>.npz of the user (unverified),
an archive that lies there, a download. The test set is for the evaluator alone.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from advbench.benchmark.data import download as downloads
from advbench.benchmark.data import extra_images, imagenet, sources, tinyimagenet
from advbench.benchmark.data.image_lists import chosen
from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.data.partition import Partition, partition
from advbench.benchmark.data.sources import DataError, Raw, data_root
from advbench.benchmark.data.splits import InMemory, Minibatch, Split
from advbench.benchmark.protocol import Data
from advbench.benchmark.records.schema import DataProvenance

__all__ = ["Availability", "DataError", "Dataset", "InMemory", "Minibatch", "Split", "available", "data_root", "load"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Dataset:
    """A data set under a protocol, on its device.

    Attributes:
        classes: class names by label.
        shape: (C, H, W) of an image.
        provenance: where it came from and how it was split; goes into the record.
        test: opened by the evaluator alone.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    provenance: DataProvenance
    train: Split
    validation: Split
    test: Split

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.classes)


def load(
    spec: Data,
    *,
    root: Path | None = None,
    device: torch.device | str = "cpu",
    download: bool = True,
) -> Dataset:
    """Find a data set, check it, split it as the protocol says, and lay it on the device.

    Args:
        spec: the protocol's `data`.
        root: data root; by default $ADVBENCH_DATA, else the user's cache folder.
        device: where images and labels shall lie (ImageNet: labels and batches).
        download: whether a set that is not there may be downloaded.

    Raises:
        DataError: if there are no data, they are broken, or they do not fit the protocol; one line with the fix.
    """
    if not _NAME.fullmatch(spec.name):
        raise DataError(f"data.name = {spec.name!r}: a name has lower-case letters, digits, '-' and '_'")
    folder = data_root(root)
    if spec.name == "imagenet":
        return _imagenet(spec, folder, device)
    if spec.name == "digits" and spec.augment not in {"none", "resized-crop-flip"}:
        raise DataError('a mirrored digit is another digit: set data.augment = "none"')
    raw = _raw(spec.name, folder, online=download)
    raw = chosen(raw, spec)
    train, test = raw.train, raw.test
    cut = partition(spec, train.y, None if test is None else test.y)
    own = InMemory(train, cut.train, scale=raw.scale, augment=spec.augment, pad=spec.pad, device=device)
    return Dataset(
        classes=raw.classes,
        shape=(train.x.shape[3], *train.x.shape[1:3]),
        provenance=_provenance(spec, raw, cut),
        train=_with_extra(own, spec, folder, len(raw.classes)),
        validation=InMemory(train, cut.validation, scale=raw.scale, device=device),
        test=InMemory(train if test is None else test, cut.test, scale=raw.scale, device=device),
    )


def _with_extra(split: InMemory, spec: Data, root: Path, num_classes: int) -> InMemory:
    """Mix the protocol's extra images, if it has some, into a training split."""
    if spec.extra is None:
        return split
    extra = extra_images.read(spec.extra, root, tuple(split.images.shape[1:]), num_classes)
    return extra_images.Mixed(split, extra, share=float(spec.extra.share))


def is_here(name: str, root: Path) -> bool:
    """Whether there is a folder or an .npz of that name; nothing in it is looked at."""
    known = KNOWN.get(name)
    folder = known is not None and bool(known.folder) and (root / known.folder).exists()
    return folder or (root / f"{name}.npz").exists()


def _raw(name: str, root: Path, *, online: bool) -> Raw:
    """Read a set from the first source that has it."""
    if name == "digits":
        return sources.digits()
    own = root / f"{name}.npz"
    if name in downloads.DOWNLOADABLE:
        read = tinyimagenet.tiny_imagenet if name == "tinyimagenet" else lambda folder: sources.cifar(folder, name)
        if (root / KNOWN[name].folder).exists():
            return read(root)
        if own.exists():
            return sources.npz(own, name)
        if downloads.fetch(name, root, online=online):
            return read(root)
    elif own.exists():
        return sources.npz(own, name)
    known = "" if name in KNOWN else f" (known sets: {', '.join(KNOWN)})"
    raise DataError(f"{name}: no data in {root}: {downloads.remedy(name, root)}{known}")


def _imagenet(spec: Data, root: Path, device: torch.device | str) -> Dataset:
    """Open ImageNet, which stays on disk."""
    known = KNOWN["imagenet"]
    if spec.augment != "resized-crop-flip":
        raise DataError(f'data.augment = "{spec.augment}": imagenet takes "resized-crop-flip"')
    if spec.extra:
        raise DataError("imagenet: no extra images for a set that stays on disk: leave data.extra out")
    if spec.train_list or spec.test_list:
        raise DataError("imagenet: no lists of images for a set that stays on disk: leave train_list and test_list out")
    if not (root / known.folder).exists():
        raise DataError(f"imagenet: no data in {root}: {downloads.remedy('imagenet', root)}")
    found = imagenet.read_folder(root)
    cut = partition(spec, found.train.labels, found.val.labels)
    return Dataset(
        classes=found.classes,
        shape=known.shape,
        provenance=_provenance(spec, found, cut),
        train=imagenet.OnDisk(found.train, cut.train, device=device),
        validation=imagenet.OnDisk(found.train, cut.validation, device=device),
        test=imagenet.OnDisk(found.val, cut.test, device=device),
    )


def _provenance(spec: Data, found: Raw | imagenet.Folder, cut: Partition) -> DataProvenance:
    return DataProvenance(
        name=spec.name,
        source=found.source,
        verified=found.verified,
        digest=found.digest,
        train=len(cut.train),
        validation=len(cut.validation),
        test=len(cut.test),
        split_sha256=cut.sha256,
        num_classes=len(found.classes),
        notes=(*found.notes, *cut.notes, *([spec.extra.text] if spec.extra else ())),
        extra=dict(found.extra),
    )


@dataclass(frozen=True)
class Availability:
    """Whether a data set is there.

    Attributes:
        state: "ready"; "unverified" (usable, recorded as unverified data); "broken" (refused); "download" (fetched when
            it is first needed); "missing" (needs files of the user).
        where: file or folder that was found, or the package.
        detail: one line: what is wrong, or how to get it.
    """

    name: str
    state: Literal["ready", "unverified", "broken", "download", "missing"]
    where: str
    detail: str


def available(root: Path | None = None) -> list[Availability]:
    """Say of every known set, and of every .npz in the data root, whether it is there; nothing is downloaded.

    CIFAR's checksums are compared (half a second each). Image folders are checked for their structure; their contents
    when they are first loaded.
    """
    folder = data_root(root)
    own = {path.stem for path in folder.glob("*.npz") if _NAME.fullmatch(path.stem)}
    return [_availability(name, folder) for name in (*KNOWN, *sorted(own - set(KNOWN)))]


def _availability(name: str, root: Path) -> Availability:
    known = KNOWN.get(name)
    places = [root / known.folder] if known is not None and known.folder else []
    if name not in {"digits", "imagenet"}:
        places.append(root / f"{name}.npz")
    where = next((place for place in places if place.exists()), None)
    if where is None and name != "digits":
        if name in downloads.DOWNLOADABLE:
            return Availability(name, "download", "", f"fetched when first needed, or {downloads.remedy(name, root)}")
        return Availability(name, "missing", "", downloads.remedy(name, root))
    place = "scikit-learn" if where is None else str(where)
    try:
        verified, detail = _inspect(name, root, where)
    except DataError as error:
        return Availability(name, "broken", place, str(error))
    return Availability(name, "ready" if verified else "unverified", place, detail)


def _inspect(name: str, root: Path, where: Path | None) -> tuple[bool, str]:
    """Return whether what was found at `where` (None: in a package) is official, and a line about it."""
    if name == "imagenet":
        return False, "; ".join(imagenet.read_folder(root).notes)
    if where is None:
        raw = sources.digits()
    elif where.suffix == ".npz":
        raw = sources.npz(where, name)
    elif name == "tinyimagenet":
        return tinyimagenet.inspect(root)
    else:
        raw = sources.cifar(root, name)
    return raw.verified, "; ".join(raw.notes) or "official files"
