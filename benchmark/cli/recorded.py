"""A record named on the command line, by a file or as a run of the store, with the weights that it names."""

from pathlib import Path
from typing import TYPE_CHECKING

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import open_store
from advbench.benchmark.files import file_sha256

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.records.schema import Record


def read_record(reference: str, store_root: Path | None) -> "tuple[Record, Path | None]":
    """Return a record and the folder where its weights may lie.

    Raises:
        Refused: if the run has none.
    """
    from advbench.benchmark.records.schema import Record
    from advbench.benchmark.runs.store import StoreError

    store = open_store(store_root)
    path = Path(reference)
    if path.is_file() or path.suffix == ".json":
        record = Record.load(path)
        try:
            return record, store.find(record.run).path
        except StoreError:
            return record, path.parent
    folder = store.find(reference)
    found = folder.record()
    if found is None:
        raise Refused(f"{folder.spec.label} has no whole record; `advbench evaluate {folder.id[:8]}` makes one")
    return found, folder.path


def find_weights(record: "Record", name: str, weights: Path | None, folder: Path | None) -> Path:
    """Find the weights of a checkpoint and compare them with what the record names.

    Raises:
        Refused: if the record has no such checkpoint, if they are not there, or are other weights.
    """
    saved = {str(key): found for key, found in record.checkpoints.items()}.get(name)
    if saved is None:
        raise Refused(f"record {record.run} has no {name} checkpoint")
    place = weights or folder or Path()
    path = place if place.is_file() else place / f"{name}.safetensors"
    if not path.is_file():
        raise Refused(f"{path}: no weights of {name} there; give them with --weights")
    found = file_sha256(path)
    if saved.sha256 != found:
        raise Refused(f"{path}: not the weights of {name}: sha256 {found[:12]}, the record names {saved.sha256[:12]}")
    return path


def load_network(path: Path, architecture: str, classes: int, channels: int) -> "torch.nn.Module":
    """Return a network of the protocol's in eval mode, its weights read as safetensors."""
    import torch

    from advbench.benchmark.models import architectures, weight_files

    with torch.random.fork_rng(devices=[]):
        network = architectures.build(architecture, num_classes=classes, channels=channels)
    return weight_files.load_weights(network, path).eval()
