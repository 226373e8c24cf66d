"""Record files with their places: a page that shows a number links the very file it was read from."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from advbench.benchmark.corrections import record_files
from advbench.benchmark.records import Record
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


def load(source: Path) -> list[Filed]:
    """Read a record file, or every current record file below a folder, in order of their paths.

    Raises:
        BoardError: if there is no such file or folder.
        RecordError: if a file fails the schema; the message names file and key.
    """
    if source.is_file():
        return [_read(source, source.parent)]
    if not source.is_dir():
        raise BoardError(f"{source}: no such records folder; give the folder that holds the records' JSON files")
    return [_read(file, source) for file in record_files(source)]


def _read(file: Path, folder: Path) -> Filed:
    record = Record.load(file)
    return Filed(PurePosixPath(file.relative_to(folder).as_posix()), record, file.read_bytes())


def places(files: Iterable[Filed]) -> dict[str, PurePosixPath]:
    """Return the record file of each run; of two files of one run the first (no board takes both)."""
    found: dict[str, PurePosixPath] = {}
    for filed in files:
        found.setdefault(filed.record.run, filed.path)
    return found
