"""Record files with their places: a page that shows a number links the very file it was read from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from advbench.benchmark.records import corrections
from advbench.benchmark.records.corrections import Event
from advbench.benchmark.records.schema import Record
from advbench.leaderboards.table import BoardError


class Filed(NamedTuple):
    """A record, the bytes of its file, and where the file lies below the folder of records."""

    path: PurePosixPath
    record: Record
    content: bytes

    @classmethod
    def of(cls, record: Record, path: PurePosixPath) -> "Filed":
        """File a record that has no file of its own yet."""
        return cls(path, record, record.dumps().encode())


class Corrected(NamedTuple):
    """A correction with its files: the superseded record, and what says why it is.

    Attributes:
        event: what happened, verified.
        old: the superseded record as it is kept.
        path: where the correction's file lies below the folder of records.
        content: its bytes.
    """

    event: Event
    old: Filed
    path: PurePosixPath
    content: bytes

    @property
    def place(self) -> PurePosixPath:
        """Where the record stood, and where what took its place stands."""
        return self.path.parent.parent / self.event.correction.record


class Source(NamedTuple):
    """What a site is made of: the current records in order of their paths, and their corrections, oldest first."""

    files: tuple[Filed, ...]
    corrected: tuple[Corrected, ...] = ()

    def under(self, digest: str) -> "Source":
        """Return what is of one protocol digest."""
        return Source(
            tuple(one for one in self.files if one.record.protocol_digest == digest),
            tuple(one for one in self.corrected if one.event.before.protocol_digest == digest),
        )


def load(source: Path) -> Source:
    """Read a record file, or every current record below a folder with what was corrected there.

    Raises:
        BoardError: if there is no such file or folder.
        RecordError: if a file fails the schema; the message names file and key.
        CorrectionError: if the history of corrections does not hold together; one line naming the file.
    """
    if source.is_file():
        return Source((_file(source, source.parent, Record.load(source)),))
    if not source.is_dir():
        raise BoardError(f"{source}: no such records folder; give the folder that holds the records' JSON files")
    found = corrections.read(source)
    files = tuple(_file(path, source, record) for path, record in found.records.items())
    return Source(files, tuple(_corrected(event, source) for event in found.history))


def _file(path: Path, folder: Path, record: Record) -> Filed:
    return Filed(PurePosixPath(path.relative_to(folder).as_posix()), record, path.read_bytes())


def _corrected(event: Event, folder: Path) -> Corrected:
    current = event.path.parent.parent / event.correction.record
    old = _file(corrections.kept(current, event.correction.old), folder, event.before)
    return Corrected(event, old, PurePosixPath(event.path.relative_to(folder).as_posix()), event.path.read_bytes())


def places(files: Iterable[Filed]) -> dict[str, PurePosixPath]:
    """Return the record file of each run; of two files of one run the first (no board takes both)."""
    found: dict[str, PurePosixPath] = {}
    for filed in files:
        found.setdefault(filed.record.run, filed.path)
    return found


def by_digest(source: Source) -> dict[str, PurePosixPath]:
    """Return the file of each sha256, superseded ones included: corrections name files by it."""
    every = [*source.files, *(one.old for one in source.corrected)]
    return {hashlib.sha256(one.content).hexdigest(): one.path for one in every}
