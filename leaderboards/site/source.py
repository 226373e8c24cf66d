"""Record files with their places: a page that shows a number links the very file it was read from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from advbench.benchmark.records import corrections, external
from advbench.benchmark.records.corrections import NAME, Correction, PlacedCorrection
from advbench.benchmark.records.external import ExternalRecord
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
    """A correction with the list that it stands in.

    Attributes:
        path: where the list lies below the folder of records.
        content: its bytes.
    """

    correction: Correction
    path: PurePosixPath
    content: bytes

    @property
    def place(self) -> PurePosixPath:
        """Where the record stood, and where what took its place stands."""
        return self.path.parent / self.correction.record


class FiledExternal(NamedTuple):
    """An external row, where its file lies below the folder of records, and the file's bytes."""

    path: PurePosixPath
    row: ExternalRecord
    content: bytes


class Source(NamedTuple):
    """What a site is made of: current records in order of their paths, corrections, oldest first, and external rows."""

    files: tuple[Filed, ...]
    corrected: tuple[Corrected, ...] = ()
    external: tuple[FiledExternal, ...] = ()

    def under(self, digest: str) -> "Source":
        """Return what is of one protocol digest."""
        return Source(
            tuple(one for one in self.files if one.record.protocol_digest == digest),
            tuple(one for one in self.corrected if one.correction.digest == digest),
            tuple(one for one in self.external if one.row.protocol_digest == digest),
        )


def load(source: Path) -> Source:
    """Read a record file, or every current record below a folder with what was corrected there.

    Raises:
        BoardError: if there is no such file or folder.
        RecordError: if the one file or an external row fails the schema; another file below a folder is left out with
            a warning.
        CorrectionError: if the corrections do not fit the records; one line naming the file.
    """
    if source.is_file():
        return Source((_file(source, source.parent, Record.load(source)),))
    if not source.is_dir():
        raise BoardError(f"{source}: no such records folder; give the folder that holds the records' JSON files")
    found = corrections.read(source)
    files = tuple(_file(path, source, record) for path, record in found.records.items())
    rows = tuple(
        FiledExternal(PurePosixPath(path.relative_to(source).as_posix()), ExternalRecord.load(path), path.read_bytes())
        for path in external.files(source)
    )
    return Source(files, tuple(_corrected(entry, source) for entry in found.entries), rows)


def _file(path: Path, folder: Path, record: Record) -> Filed:
    return Filed(PurePosixPath(path.relative_to(folder).as_posix()), record, path.read_bytes())


def _corrected(entry: PlacedCorrection, folder: Path) -> Corrected:
    path = entry.path.parent / NAME
    return Corrected(entry.correction, PurePosixPath(path.relative_to(folder).as_posix()), path.read_bytes())


def places(files: Iterable[Filed]) -> dict[str, PurePosixPath]:
    """Return the record file of each run; of two files of one run the first (no board takes both)."""
    found: dict[str, PurePosixPath] = {}
    for filed in files:
        found.setdefault(filed.record.run, filed.path)
    return found


def by_digest(source: Source) -> dict[str, PurePosixPath]:
    """Return the current record file of each sha256: corrections name files by it."""
    return {hashlib.sha256(filed.content).hexdigest(): filed.path for filed in source.files}
