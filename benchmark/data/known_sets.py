"""Facts of the data sets that are known by name. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Known:
    """Facts of a known data set.

    Attributes:
        shape: (C, H, W).
        images: training and test images as published; the digits' test set is cut from its one set by the protocol.
        folder: its official files, under the data root.
        archive: the archive they come in.
    """

    shape: tuple[int, int, int]
    num_classes: int
    images: tuple[int, int]
    folder: str = ""
    archive: str = ""


KNOWN: Mapping[str, Known] = MappingProxyType(
    {
        "digits": Known((1, 8, 8), 10, (1_797, 0)),
        "cifar10": Known((3, 32, 32), 10, (50_000, 10_000), "cifar-10-batches-py", "cifar-10-python.tar.gz"),
        "cifar100": Known((3, 32, 32), 100, (50_000, 10_000), "cifar-100-python", "cifar-100-python.tar.gz"),
        "tinyimagenet": Known((3, 64, 64), 200, (100_000, 10_000), "tiny-imagenet-200", "tiny-imagenet-200.zip"),
        "imagenet": Known((3, 224, 224), 1000, (1_281_167, 50_000), "imagenet"),
    }
)
