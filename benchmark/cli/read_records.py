"""The records that a command reads: of a folder or the store, or one named by its file or its run; and its weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import open_store
from advbench.benchmark.files import file_sha256
from advbench.benchmark.records.schema import Record
from advbench.leaderboards import board

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.corrections import Event
    from advbench.benchmark.runs.store import Store
    from advbench.leaderboards.table import Table


def load(
    records: Path | None, store_root: Path | None, protocol: "Protocol | None"
) -> "tuple[list[Record], tuple[Event, ...]]":
    """Return the records of a folder with its corrections, or those of the store; of one protocol or of all."""
    correction_notes: tuple[Event, ...] = ()
    if records is not None:
        found, correction_notes = board.load(records)
    else:
        store = open_store(store_root)
        found = [record for _, record in store.records() if measured(record) or record.training.diverged is not None]
    if protocol is not None:
        found = [record for record in found if record.protocol_digest == protocol.digest]
        correction_notes = tuple(event for event in correction_notes if event.before.protocol_digest == protocol.digest)
    return found, correction_notes


def collect(records: Path | None, store_root: Path | None, protocol: "Protocol | None") -> "list[list[Record]]":
    """Return the records by protocol digest, from a folder or the store.

    Raises:
        Refused: if there is none.
    """
    found, _ = load(records, store_root, protocol)
    if not found:
        raise Refused(_nothing(records, store_root, protocol))
    return list(board.group(found).values())


def build(
    records: Path | None, store_root: Path | None, protocol: "Protocol | None", *, published: bool = False
) -> "list[Table]":
    """Return the board of every protocol, also of those whose every record was withdrawn.

    Raises:
        Refused: if there is none.
    """
    from advbench.benchmark.protocol import Protocol
    from advbench.leaderboards import published_numbers

    found, correction_notes = load(records, store_root, protocol)
    groups = board.group(found)
    boards = [(list(several), protocol_of(several)) for several in groups.values()]
    for event in correction_notes:
        before = event.before
        if before.protocol_digest not in {one.digest for _, one in boards}:
            boards.append(([], Protocol.from_plain(before.protocol, f"record {before.run}")))
    if not boards:
        raise Refused(_nothing(records, store_root, protocol))
    tables = [board.build(several, one, history=correction_notes) for several, one in boards]
    if not published:
        return tables
    return [published_numbers.beside(table, one) for table, (_, one) in zip(tables, boards, strict=True)]


def _nothing(records: Path | None, store_root: Path | None, protocol: "Protocol | None") -> str:
    place = records if records is not None else open_store(store_root).root
    of = "" if protocol is None else f" of {protocol.name}"
    return f"{place}: no records{of}; `advbench run-all` makes some, --records reads another folder"


def protocol_of(records: "list[Record]") -> "Protocol":
    """Return the protocol that records of one digest hold."""
    from advbench.benchmark.protocol import Protocol

    return Protocol.from_plain(records[0].protocol, f"record {records[0].run}")


def from_store(store: "Store", protocol: "Protocol") -> list[Record]:
    """Return the records of a protocol in the store; a run that was only trained is nobody's row yet."""
    return [
        record
        for _, record in store.records()
        if record.protocol_digest == protocol.digest and (measured(record) or record.training.diverged is not None)
    ]


def measured(record: Record) -> bool:
    """Whether anything was measured on a checkpoint of the run."""
    return any(checkpoint.evaluation.columns for checkpoint in record.checkpoints.values())


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
