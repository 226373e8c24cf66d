"""Where images come from: scikit-learn's digits, the official CIFAR files, and `.npz` files of the user."""

import hashlib
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.files import file_sha256

DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Content of scikit-learn's digits as version 1.9.1 ships them: pixels then labels, a byte each (UCI optical digits,
test part). There is no other published checksum: this one finds a change between versions."""
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_LISTED = 64
_DARK = 64
"""Images of which no pixel reaches this were probably scaled twice."""
"""Further arrays of an .npz up to this size are kept in the record whole, larger ones as shape and digest."""


class DataError(ValueError):
    """Data that are missing, broken or not what the protocol asks for; the message is one line with the fix."""


class Labelled(NamedTuple):
    """Images (N, H, W, C) uint8 and their labels (N,) int64."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Raw:
    """A whole data set in memory, before any split.

    Attributes:
        test: the official test set, or None where one has to be cut from `train`.
        classes: class names by label.
        source: where it came from, without machine paths: it is published.
        verified: whether the checksums of the official files matched.
        digest: sha256 of the content; each source says of what.
        scale: the pixel value that means 1.0.
        names: "wnid/file name" of the images of "train" and "test", where the set consists of files.
    """

    train: Labelled
    test: Labelled | None
    classes: tuple[str, ...]
    source: str
    verified: bool
    digest: str
    scale: int = 255
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def data_root(root: Path | None = None) -> Path:
    """Return `root`, else $ADVBENCH_DATA, else advbench/data in the user's cache folder."""
    if root is not None:
        return Path(root)
    if chosen := os.environ.get("ADVBENCH_DATA"):
        return Path(chosen).expanduser()
    return user_cache()


def user_cache() -> Path:
    """Return advbench/data in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "advbench" / "data"


def manifest_digest(entries: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 of lines "sha256  name" of (sha256, name) pairs: `sha256sum FILES | sha256sum`."""
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for sha256, name in entries).encode()).hexdigest()


def digits() -> Raw:
    """Read the 1,797 digits of scikit-learn, (8, 8, 1) with values 0 … 16. Digest: pixels, then labels."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (a second to import; no other set needs it)

    bunch = load_digits()
    x = bunch.images.astype(np.uint8)[..., None]
    y = bunch.target.astype(np.int64)
    digest = hashlib.sha256(x.tobytes() + y.astype(np.uint8).tobytes()).hexdigest()
    verified = digest == DIGITS_SHA256
    return Raw(
        train=Labelled(x, y),
        test=None,
        classes=tuple(str(digit) for digit in range(10)),
        source=f"scikit-learn {version('scikit-learn')} load_digits",
        verified=verified,
        digest=digest,
        scale=16,
        notes=() if verified else ("unverified data: scikit-learn's digits are not the published ones",),
    )


class _Official(NamedTuple):
    """The official files of a CIFAR set, as torchvision lists them: (name, md5) each, and the key of class names."""

    train: list[tuple[str, str]]
    test: list[tuple[str, str]]
    meta: tuple[str, str]
    names: str


def _official(name: str) -> _Official:
    from advbench.benchmark import torchvision_import  # noqa: PLC0415 (loads torch, which no other set needs)

    datasets = torchvision_import.module("torchvision.datasets")
    listed = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    return _Official(
        [(file, md5) for file, md5 in listed.train_list],
        [(file, md5) for file, md5 in listed.test_list],
        (listed.meta["filename"], listed.meta["md5"]),
        listed.meta["key"],
    )


class _ArraysOnly(pickle.Unpickler):
    """Reads plain data and NumPy arrays; anything else that a pickle could call is refused."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 (the signature of pickle)
        """Return an allowed constructor."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)


def unpickle(content: bytes, source: str) -> dict[str, Any]:
    """Read a pickled dict of plain data and NumPy arrays (Python 2's too); code in it is refused.

    Raises:
        DataError: if there is anything else in it, or it is torn.
    """
    try:
        with warnings.catch_warnings():  # pickles of Python 2 hold dtype flags as integers, which NumPy 2.4 deprecates
            warnings.simplefilter("ignore")
            plain = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a torn pickle raises whatever its bytes happen to call
        raise DataError(f"{source}: not a readable CIFAR file ({error}): replace it by the official one") from error
    if not isinstance(plain, dict):
        raise DataError(f"{source}: not a readable CIFAR file (no dict): replace it by the official one")
    return plain


def cifar(root: Path, name: str) -> Raw:
    """Read the official files of "cifar10" or "cifar100", md5 checked first. Digest: manifest of all files.

    Raises:
        DataError: if a file is missing or is not the official one; the line names it.
    """
    folder = root / KNOWN[name].folder
    official = _official(name)
    contents, manifest = {}, []
    for file, md5 in sorted([*official.train, *official.test, official.meta]):
        contents[file] = _checked(folder / file, md5, name)
        manifest.append((hashlib.sha256(contents[file]).hexdigest(), file))
    train = _merge([unpickle(contents[file], file) for file, _ in official.train])
    test = _merge([unpickle(contents[file], file) for file, _ in official.test])
    meta = unpickle(contents[official.meta[0]], official.meta[0])
    return Raw(
        train=train,
        test=test,
        classes=tuple(meta[official.names]),
        source=f"official files ({KNOWN[name].folder})",
        verified=True,
        digest=manifest_digest(manifest),
    )


def _checked(path: Path, md5: str, name: str) -> bytes:
    """Return the content of an official file after comparing its md5."""
    hint = f"remove {path.parent} to download it again, or keep own data in {path.parent.parent / (name + '.npz')}"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: missing: {hint}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{path}: not the official file (md5 {found} instead of {md5}): {hint}")
    return content


def _merge(parts: list[dict[str, Any]]) -> Labelled:
    """Join the batches of a CIFAR set; pixels are stored as rows of 3 × 32 × 32."""
    rows = np.concatenate([part["data"] for part in parts])
    labels = np.concatenate([part.get("labels", part.get("fine_labels")) for part in parts])
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Labelled(np.ascontiguousarray(images), labels.astype(np.int64))


def npz(path: Path, name: str) -> Raw:
    """Read <name>.npz: x_train, y_train, x_test, y_test, N×H×W×C uint8 and integers. Digest: the file's sha256.

    The data count as unverified. Further keys are kept in `extra`. A name that is not KNOWN takes its shape and classes
    from the file.

    Raises:
        DataError: if a key is missing or does not fit; the line names it.
    """
    arrays = npz_arrays(path)
    missing = [key for key in NPZ_KEYS if key not in arrays]
    if missing:
        raise DataError(f"{path}: no {', '.join(missing)}: it needs the arrays {', '.join(NPZ_KEYS)}")
    train, test = (labelled(path, arrays, f"x_{part}", f"y_{part}") for part in ("train", "test"))
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(f"{path}: x_train and x_test differ in shape: {train.x.shape[1:]} and {test.x.shape[1:]}")
    known = KNOWN.get(name)
    if known is not None:
        channels, height, width = known.shape
        if train.x.shape[1:] != (height, width, channels):
            asked = f"{height}×{width}×{channels}"
            raise DataError(f"{path}: x_train is N×{'×'.join(map(str, train.x.shape[1:]))}, {name} is N×{asked}")
    num_classes = known.num_classes if known is not None else max(int(train.y.max()) + 1, 2)
    for key, labels in (("y_train", train.y), ("y_test", test.y)):
        check_labels(labels, num_classes, f"{path}: {key}")
    absent = sorted(set(range(num_classes)) - set(train.y.tolist()))
    if absent:
        raise DataError(f"{path}: y_train: class {absent[0]} of {num_classes} has no image: every class needs some")
    return Raw(
        train=train,
        test=test,
        classes=tuple(str(label) for label in range(num_classes)),
        source=path.name,
        verified=False,
        digest=file_sha256(path),
        notes=(f"unverified data: {path.name}", *_doubts(train, test)),
        extra={key: _plain(array) for key, array in sorted(arrays.items()) if key not in NPZ_KEYS},
    )


def _doubts(train: Labelled, test: Labelled) -> Iterator[str]:
    """Say what looks like a mistake and may be meant: a scale that is not used, test images that were trained on."""
    highest = max(int(train.x.max()), int(test.x.max()))
    if highest < _DARK:
        yield f"doubtful scale: no pixel is above {highest} of 255; were the images scaled twice?"
    seen = {hashlib.blake2b(image, digest_size=16).digest() for image in train.x}
    known = sum(hashlib.blake2b(image, digest_size=16).digest() in seen for image in test.x)
    if known > len(test.x) / 100:
        yield f"test set not held out: {known} of {len(test.x)} test images are training images, too"


def npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz, without pickles.

    Raises:
        DataError: if it is none.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz: save the arrays with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable .npz of plain arrays ({message}): save it with numpy.savez") from error
    odd = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
    if odd:
        raise DataError(f"{path}: member {odd[0]!r} is no array: save it with numpy.savez")
    return arrays


def labelled(path: Path, arrays: Mapping[str, NDArray[Any]], images: str, labels: str) -> Labelled:
    """Return the images and labels of two arrays.

    Raises:
        DataError: for other than uint8 N×H×W×C and N integers.
    """
    x, y = arrays[images], arrays[labels]
    if x.dtype != np.uint8 or x.ndim != 4 or not x.size:
        found = f"{x.dtype} with shape {x.shape}"
        raise DataError(f"{path}: {images} must be uint8 N×H×W×C with values 0 … 255, not {found}")
    if y.ndim == 2 and y.shape[1] == 1:  # Keras saves labels as a column
        y = y[:, 0]
    if y.dtype.kind not in "iu" or y.shape != (len(x),):
        raise DataError(f"{path}: {labels} must be {len(x)} integers, not {y.dtype} with shape {y.shape}")
    return Labelled(np.ascontiguousarray(x), y.astype(np.int64))


def check_labels(labels: NDArray[np.int64], num_classes: int, where: str) -> None:
    """Refuse labels outside 0 … num_classes−1, naming the first.

    Raises:
        DataError: if there is one.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels[wrong[0]]} of image {wrong[0]} is out of range: labels are 0 … {num_classes - 1}"
        )


def _plain(array: NDArray[Any]) -> Any:  # noqa: ANN401 (JSON data of any shape)
    """Turn a further array of an .npz into JSON data."""
    if (
        array.size <= _LISTED
        and array.dtype.kind in "biufU"
        and np.all(np.isfinite(array) if array.dtype.kind == "f" else True)
    ):
        return array.tolist()
    described: dict[str, Any] = {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
    }
    if array.dtype.kind == "b":
        described["true"] = int(array.sum())
    return described
