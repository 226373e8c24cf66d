"""Corrections: published records that were replaced or withdrawn, with their reasons. Torch-free.

Beside the records of a method lies `corrections.json`, a list of what was corrected there, oldest first. The superseded
file itself is in git's history; its entry names the sha256 and what a board must show of it.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from advbench.benchmark.files import file_sha256, parse_json, write_bytes
from advbench.benchmark.protocol import explain
from advbench.benchmark.records.external import FOLDER
from advbench.benchmark.records.schema import Part, Record, RecordError, Sha256

log = logging.getLogger(__name__)
NAME = "corrections.json"
Percent = float | None


class CorrectionError(ValueError):
    """Corrections that do not fit the records; the message is one line naming the file and the hint."""


class Correction(Part):
    """What happened to a published record, when and why.

    Attributes:
        record: name of its file, such as "seed0.json".
        reason: one line, shown on the board.
        label: the board's row: "TRADES (beta=3.0)".
        images: test images of the superseded record.
        old, new: sha256 of the file before and after; `new` is None where it was withdrawn, and so is all of "after".
        clean_before, …: accuracies in percent on the best checkpoint, None where not measured.
    """

    protocol: str
    digest: Sha256
    date: date
    kind: Literal["replaced", "withdrawn"]
    record: str = Field(pattern=r"^[^/\\]+\.json$")
    method: str
    label: str
    seed: int
    images: int
    reason: str
    old: Sha256
    new: Sha256 | None = None
    old_run: str
    new_run: str | None = None
    clean_before: Percent
    clean_after: Percent = None
    autoattack_before: Percent
    autoattack_after: Percent = None

    @field_validator("reason")
    @classmethod
    def _one_line(cls, reason: str) -> str:
        if not reason.strip() or reason != " ".join(reason.split()):
            raise ValueError("write the reason in one line")
        return reason

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.new is None) != (self.kind == "withdrawn"):
            raise ValueError("`new` is the sha256 of what took the record's place, and missing if it was withdrawn")
        return self

    @property
    def identity(self) -> tuple[str, str, int]:
        """What a correction never changes: protocol digest, method, seed."""
        return self.digest, self.method, self.seed

    def moved(self, column: Literal["clean", "autoattack"]) -> tuple[Percent, Percent]:
        """Return the accuracy before and after, in percent on the best checkpoint."""
        if column == "clean":
            return self.clean_before, self.clean_after
        return self.autoattack_before, self.autoattack_after


_ENTRIES = TypeAdapter(tuple[Correction, ...])


class PlacedCorrection(NamedTuple):
    """A correction and the path of the record that it speaks of."""

    correction: Correction
    path: Path


@dataclass(frozen=True, slots=True)
class PublishedRecords:
    """A records folder as it is read: the current records with their files, and what was corrected, oldest first."""

    records: dict[Path, Record]
    entries: tuple[PlacedCorrection, ...] = ()

    @property
    def history(self) -> tuple[Correction, ...]:
        """The corrections without their places."""
        return tuple(entry.correction for entry in self.entries)


def record_files(folder: Path) -> list[Path]:
    """Return the files of the current records below a folder, in order of their paths; external rows are none."""
    return [file for file in sorted(folder.rglob("*.json")) if file.name != NAME and file.parent.name != FOLDER]


def read(folder: Path) -> PublishedRecords:
    """Read the records below a folder with their corrections.

    A record that cannot be read is left out with a warning, and so are those beside a list that cannot be read: what is
    broken costs its own row, not the board.

    Raises:
        CorrectionError: if the last entry of a list on a record is not what stands there today.
    """
    entries: list[PlacedCorrection] = []
    unread = set()
    for file in sorted(folder.rglob(NAME)):
        try:
            past = load(file.parent)
        except CorrectionError as error:
            log.warning("left out with the records beside it: %s", error)
            unread.add(file.parent)
        else:
            entries += _checked(past, file.parent)
    records = {file: record for file, record in _current(folder) if file.parent not in unread}
    return PublishedRecords(records, tuple(sorted(entries, key=lambda entry: entry.correction.date)))


def _current(folder: Path) -> Iterator[tuple[Path, Record]]:
    for file in record_files(folder):
        try:
            yield file, Record.load(file)
        except RecordError as error:
            log.warning("left out: %s", error)


def load(folder: Path) -> tuple[Correction, ...]:
    """Return the corrections of the records in a folder, oldest first; none if there is no list.

    Raises:
        CorrectionError: if the list cannot be read or fails the schema.
    """
    path = folder / NAME
    try:
        return parse(path.read_bytes(), path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise CorrectionError(f"{path}: cannot be read ({error.strerror})") from None


def parse(raw: bytes, path: Path) -> tuple[Correction, ...]:
    """Return the corrections in the contents of a list.

    Raises:
        CorrectionError: if they fail the schema; one line naming the file.
    """
    try:
        return _ENTRIES.validate_python(parse_json(raw, CorrectionError, str(path)))
    except ValidationError as error:
        raise CorrectionError(f"{path}: not a valid correction: {explain(error, 'list', 1)}") from None


def add(folder: Path, correction: Correction) -> Path:
    """Write one correction more into the list of a folder; return its file."""
    path = folder / NAME
    write_bytes(path, _ENTRIES.dump_json((*load(folder), correction), indent=1) + b"\n")
    return path


def _checked(past: Iterable[Correction], folder: Path) -> Iterator[PlacedCorrection]:
    """Yield the entries of a list, whose last on each record must be what stands there."""
    entries = [PlacedCorrection(correction, folder / correction.record) for correction in past]
    for path, new in {path: correction.new for correction, path in entries}.items():
        if new is None and path.exists():
            raise CorrectionError(f"{path}: was withdrawn and stands there; publish it with --replace and --reason")
        if new is not None and not path.exists():
            raise CorrectionError(f"{path}: is missing and was not withdrawn; `advbench publish --withdraw` says why")
        if new is not None and file_sha256(path) != new:
            raise CorrectionError(f"{path}: is not what its last correction put there; publish it with --replace")
    yield from entries
