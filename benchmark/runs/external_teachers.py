"""Frozen teachers that a protocol names by file and sha256, in place of those that are trained under it."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from advbench.benchmark.data.registry import DataError, Dataset, data_root
from advbench.benchmark.files import file_sha256
from advbench.benchmark.models.external import Workload, open_network
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Teacher


def external_teachers(
    protocol: Protocol, roles: Collection[str], dataset: Dataset, root: Path | None, device: torch.device
) -> dict[str, tuple[nn.Module, Teacher]]:
    """Open the protocol's teachers for some roles of a method.

    Raises:
        DataError: if a file is not in the data root, or is another.
        ExternalError: if it does not hold weights of its architecture.
    """
    found = {}
    workload = Workload(dataset.provenance.name, dataset.num_classes, dataset.shape)
    for teacher in (each for each in protocol.teachers if each.role in roles):
        path = data_root(root) / teacher.file
        if not path.is_file():
            raise DataError(f"{path}: no such teacher, which the protocol names: put the file there")
        if file_sha256(path) != teacher.sha256:
            raise DataError(f"{path}: not the teacher that the protocol means (its sha256 is another)")
        opened = open_network(str(path), workload, architecture=teacher.network, device=device)
        found[teacher.role] = opened.network, Teacher(method=teacher.file, run="", sha256=teacher.sha256, seconds=0)
    return found
