"""Labels of the test images, which records do not hold.

Torch is needed only where torchvision knows the official files (CIFAR) or the images stay on disk (ImageNet).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advbench.benchmark.data import sources
from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.data.partition import partition
from advbench.benchmark.data.sources import DataError, Raw
from advbench.benchmark.protocol import Data

Labels = NDArray[np.int64]


def load(spec: Data, digests: tuple[str, str], root: Path | None) -> tuple[Labels, tuple[str, ...]]:
    """Return labels (n,) and class names; nothing is downloaded.

    Args:
        spec: the data of a protocol.
        digests: sha256 of the data and of the split that are wanted.
        root: folder of data sets.

    Raises:
        DataError: if the data are not here, or are others; one line.
        ImportError: if a package that reads them is missing.
    """
    labels, classes, *found = _labels(spec, root)
    if tuple(found) != digests:
        raise DataError(f"the {spec.name} here are other data than those of the records")
    return labels, classes


def _labels(spec: Data, data_root: Path | None) -> tuple[Labels, tuple[str, ...], str, str]:
    """Return labels, class names, and the digests of data and split."""
    raw = _light(spec.name, sources.data_root(data_root))
    if raw is None:
        from advbench.benchmark.data import registry  # noqa: PLC0415 (loads torch)

        dataset = registry.load(spec, root=data_root, download=False)
        return (
            dataset.test.labels.cpu().numpy().astype(np.int64),
            dataset.classes,
            dataset.provenance.digest,
            dataset.provenance.split_sha256,
        )
    cut = partition(spec, raw.train.y, None if raw.test is None else raw.test.y)
    labels = (raw.train if raw.test is None else raw.test).y[cut.test]
    return labels, raw.classes, raw.digest, cut.sha256


def _light(name: str, root: Path) -> Raw | None:
    """Read a set that needs no torch, from where `data.load` would read it; None for any other."""
    if name == "digits":
        return sources.digits()
    official = KNOWN[name].folder if name in KNOWN else ""
    own = root / f"{name}.npz"
    if own.is_file() and not (official and (root / official).exists()):
        return sources.npz(own, name)
    return None
