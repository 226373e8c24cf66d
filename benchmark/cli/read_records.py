"""The records that a command reads: of a folder or the store, or one named by its file or its run with its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import PATH, Option, gather, open_store, protocol_option, store_folder
from advbench.benchmark.files import file_sha256

if TYPE_CHECKING:
    from advbench.benchmark.data.labels import Labels
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.corrections import Correction
    from advbench.benchmark.records.external import ExternalRecord
    from advbench.benchmark.records.schema import Record
    from advbench.leaderboards.table import Table


@dataclass(frozen=True)
class RecordSource:
    """Where records come from: a folder, or else the store; of one protocol, or of all."""

    protocol: "Protocol | None" = None
    records: Path | None = None
    store_root: Path | None = None

    def load(self) -> "tuple[list[Record], tuple[Correction, ...]]":
        """Return the records and, of a folder, its corrections; a run of the store that was only trained is no row."""
        from advbench.leaderboards import board

        events: tuple[Correction, ...] = ()
        if self.records is not None:
            found, events = board.load(self.records)
        else:
            found = [record for _, record in open_store(self.store_root).records() if _measured(record)]
        if self.protocol is not None:
            found = [record for record in found if record.protocol_digest == self.protocol.digest]
            events = tuple(event for event in events if event.digest == self.protocol.digest)
        return found, events

    def external(self) -> "tuple[ExternalRecord, ...]":
        """Return the external rows of a folder of records."""
        from advbench.benchmark.records import external

        rows = () if self.records is None or not self.records.is_dir() else external.load(self.records)
        return tuple(row for row in rows if self.protocol is None or row.protocol_digest == self.protocol.digest)

    def groups(self) -> "list[list[Record]]":
        """Return the records by protocol digest.

        Raises:
            Refused: if there is none.
        """
        from advbench.leaderboards import board

        found, _ = self.load()
        if not found:
            raise self.nothing()
        return list(board.group(found).values())

    def of_one_protocol(self) -> "list[Record]":
        """Return the records of the one protocol there is.

        Raises:
            Refused: if there are several, or none.
        """
        groups = self.groups()
        if len(groups) > 1:
            names = ", ".join(sorted(found[0].protocol_name for found in groups))
            raise Refused(f"outcomes are compared under one protocol; choose one with --protocol: {names}")
        return groups[0]

    def boards(self, *, published: bool = False) -> "list[Table]":
        """Return the board of every protocol, also where every record was withdrawn or only external rows are.

        Without any record, `published` asks for the boards that numbers from elsewhere alone fill.

        Raises:
            Refused: if there is none.
        """
        from advbench.benchmark.protocol import published as frozen
        from advbench.leaderboards import board, external_rows, published_numbers

        found, events = self.load()
        rows = self.external()
        groups = list(board.group(found).values())
        pairs = [(records, records[0].protocol) for records in groups]
        known = {protocol.digest: protocol for protocol in frozen().values()}
        known |= {row.protocol_digest: row.protocol for row in rows}
        bare = {event.digest for event in events} | {row.protocol_digest for row in rows}
        bare -= {protocol.digest for _, protocol in pairs}
        pairs += [([], protocol) for digest, protocol in known.items() if digest in bare]
        if not pairs and published:
            newest = {name.partition("/")[0]: protocol for name, protocol in frozen().items()}
            asked = newest.values() if self.protocol is None else [self.protocol]
            empty = [published_numbers.beside(board.build([], protocol), protocol) for protocol in asked]
            if tables := [table for table in empty if table.published]:
                return tables
        if not pairs:
            raise self.nothing()
        tables = [
            external_rows.beside(board.build(records, protocol, history=events), rows) for records, protocol in pairs
        ]
        if not published:
            return tables
        return [published_numbers.beside(table, protocol) for table, (_, protocol) in zip(tables, pairs, strict=True)]

    def nothing(self) -> Refused:
        """Return the error that there are no records."""
        place = self.records if self.records is not None else open_store(self.store_root).root
        of = "" if self.protocol is None else f" of {self.protocol.name}"
        return Refused(f"{place}: no records{of}; `advbench run-all` makes some, --records reads another folder")


def _source(protocol: "Protocol | None", records: Path | None, store_root: Path | None) -> RecordSource:
    """Return the source that options name: without any, the published records where there is no store."""
    from advbench.benchmark.runs.store import default_root
    from advbench.leaderboards.board import PUBLISHED

    if records == Path("published") and not records.exists():
        records = PUBLISHED
    elif records is None and store_root is None and not default_root().is_dir():
        click.echo(f"note: there are no runs in {default_root()}: these are the published records", err=True)
        records = PUBLISHED
    return RecordSource(protocol, records, store_root)


def records_options(only: str = "Only this one.  [default: every protocol that has records]") -> Option:
    """Return the options that say which records are read; the command gets them as `source`."""
    words = "Records folder to read instead of the store; published: those that come with advbench, as where no run is."
    records = click.option("--records", type=PATH, help=words)
    return gather("source", _source, protocol_option(help=only), records, store_folder)


def labels_of(record: "Record", data_root: Path | None) -> "tuple[Labels, tuple[str, ...]] | None":
    """Return labels and class names of the test images; None, and a line on stderr, where their data are not here."""
    from advbench.benchmark.data import labels
    from advbench.benchmark.data.sources import DataError

    try:
        data = record.protocol.data
        return labels.load(data, (record.data.digest, record.data.split_sha256), data_root)
    except (ImportError, DataError) as error:
        click.echo(f"no classes shown: {error}", err=True)
        return None


def _measured(record: "Record") -> bool:
    """Whether a run is no trial and anything was measured of it, or it diverged before there was a checkpoint."""
    attacked = any(checkpoint.evaluation.columns for checkpoint in record.checkpoints.values())
    return record.division != "trial" and (attacked or record.training.diverged is not None)


@dataclass(frozen=True)
class RecordRef:
    """A record named by its file or as a run of the store, and where its weights are."""

    record: str
    checkpoint: str
    weights: Path | None

    def read(self, store_root: Path | None) -> "tuple[Record, Path]":
        """Return the record and the folder where its weights may lie.

        Raises:
            Refused: if the run has none.
        """
        from advbench.benchmark.records.schema import Record
        from advbench.benchmark.runs.store import StoreError

        store = open_store(store_root)
        path = Path(self.record)
        if path.is_file() or path.suffix == ".json":
            record = Record.load(path)
            try:
                return record, store.find(record.run).path
            except StoreError:
                return record, path.parent
        return store_record(self.record, store_root), store.find(self.record).path

    def find_weights(self, record: "Record", name: str, folder: Path) -> Path:
        """Find the weights of a checkpoint and compare them with what the record names.

        Raises:
            Refused: if the record has no such checkpoint, if they are not there, or are other weights.
        """
        saved = {str(key): found for key, found in record.checkpoints.items()}.get(name)
        if saved is None:
            raise Refused(f"record {record.run} has no {name} checkpoint")
        place = self.weights or folder
        path = place if place.is_file() else place / f"{name}.safetensors"
        if not path.is_file():
            raise Refused(f"{path}: no weights of {name} there; give them with --weights")
        found = file_sha256(path)
        if saved.sha256 != found:
            raise Refused(
                f"{path}: not the weights of {name}: sha256 {found[:12]}, the record names {saved.sha256[:12]}"
            )
        return path


weights_option = click.option("--weights", type=PATH, help="The weights file, or a folder of them.")


def store_record(run: str, store_root: Path | None) -> "Record":
    """Return the record of a run of the store.

    Raises:
        Refused: if it has none.
    """
    folder = open_store(store_root).find(run)
    record = folder.record()
    if record is None:
        raise Refused(f"{folder.spec.label} has no whole record; `advbench evaluate {folder.id[:8]}` makes one")
    return record
