"""Corrections: published records that were replaced or withdrawn, kept with the reason and their hash. Torch-free.

Beside the records of a method lies `superseded/`: the old file byte for byte as `seed0-<digest>.json`, where <digest>
is the start of its sha256, and one file that says why: `seed0-<digest>.replaced.json` names what took its place,
`seed0-<digest>.withdrawn.json` takes the row off the board. The names come from the old file, so that two pull requests
that correct the same record clash in git instead of being merged.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from advbench.benchmark.files import file_sha256
from advbench.benchmark.records.schema import ObsoleteError, Part, Record, Sha256

log = logging.getLogger(__name__)

FOLDER = "superseded"
KINDS = ("replaced", "withdrawn")
NAMED = 16
"""Hex digits of the old file's sha256 in the names of what is kept of it."""
OLD = re.compile(r"(?P<stem>.+)-(?P<digest>[0-9a-f]{16})\.json")
CORRECTION = re.compile(r"(?P<stem>.+)-(?P<digest>[0-9a-f]{16})\.(?P<kind>replaced|withdrawn)\.json")


class CorrectionError(ValueError):
    """A history of records that does not hold together; the message is one line naming the file and the mend."""


class Correction(Part):
    """One file beside a superseded record: what happened to it, when and why.

    Attributes:
        record: file name of the record that stood there, such as "seed0.json".
        old: sha256 of its file.
        new: sha256 of the file that took its place when it was replaced; None where it was withdrawn.
        date: day of the correction (UTC).
        reason: one line, shown on the board.
    """

    schema_version: Literal[1] = 1
    kind: Literal["replaced", "withdrawn"]
    record: str = Field(pattern=r"^[^/\\]+\.json$")
    old: Sha256
    new: Sha256 | None = None
    date: date
    reason: str

    @field_validator("reason")
    @classmethod
    def _one_line(cls, reason: str) -> str:
        if not reason.strip() or reason != " ".join(reason.split()):
            raise ValueError("write the reason in one line")
        return reason

    def dumps(self) -> str:
        """Serialise as stable, readable JSON."""
        return self.model_dump_json(indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One correction together with the records before and after it, read from their files and verified.

    Attributes:
        correction: kind, date, reason, digests.
        before, after: the superseded record, and the one that took its place; None after a withdrawal.
        path: the correction's file.
    """

    correction: Correction
    before: Record
    after: Record | None = field(repr=False)
    path: Path

    @property
    def title(self) -> str:
        """The row and seed: "TRADES (beta=3.0), seed 1"."""
        return f"{self.before.method.row}, seed {self.before.seed}"


@dataclass(frozen=True, slots=True)
class Published:
    """A records folder as it is read: the current records with their files, and what was corrected, oldest first."""

    records: dict[Path, Record]
    history: tuple[Event, ...] = ()


def kept(path: Path, digest: str) -> Path:
    """Return where the superseded file of a record is kept."""
    return path.parent / FOLDER / f"{path.stem}-{digest[:NAMED]}.json"


def place(path: Path, digest: str, kind: str) -> Path:
    """Return where the correction of a record is kept."""
    return path.parent / FOLDER / f"{path.stem}-{digest[:NAMED]}.{kind}.json"


def record_files(folder: Path) -> list[Path]:
    """Return the files of the current records below a folder, in order of their paths."""
    return [file for file in sorted(folder.rglob("*.json")) if FOLDER not in file.relative_to(folder).parts]


def read(folder: Path) -> Published:
    """Read the records below a folder and verify the whole history of corrections.

    Raises:
        RecordError: if a record fails the schema.
        CorrectionError: if a correction fails its schema, names a file that is missing or was edited, or the
            corrections of a record do not lead from one to the next up to the record that stands there today.
    """
    records = dict(_current(folder))
    events: list[Event] = []
    for past in sorted(path for path in folder.rglob(FOLDER) if path.is_dir()):
        events += _past(past, records)
    return Published(records, tuple(sorted(events, key=lambda one: one.correction.date)))


def _current(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Yield the current records; one whose protocol is none any more costs its own row, not the board."""
    for file in record_files(folder):
        try:
            yield file, Record.load(file)
        except ObsoleteError as error:
            log.warning("left out: %s", error)


def load(path: Path) -> Correction:
    """Read a correction file.

    Raises:
        CorrectionError: if it cannot be read, fails the schema, or its name is not that of what it corrects.
    """
    try:
        found = Correction.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CorrectionError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "correction"
        raise CorrectionError(f"{path}: not a valid correction: {key}: {first['msg']}") from None
    if path != place(path.parent.parent / found.record, found.old, found.kind):
        raise CorrectionError(f"{path}: its name is not that of the {found.record} it says was {found.kind}")
    if (found.new is None) != (found.kind == "withdrawn"):
        raise CorrectionError(f"{path}: `new` is the sha256 of what took its place, and missing if it was withdrawn")
    return found


def _past(folder: Path, records: dict[Path, Record]) -> list[Event]:
    """Verify one folder of superseded records and return its events."""
    corrections: dict[str, list[tuple[Path, Correction]]] = defaultdict(list)
    old: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if CORRECTION.fullmatch(file.name):
            found = load(file)
            corrections[found.record].append((file, found))
        elif OLD.fullmatch(file.name):
            old[file_sha256(file)] = file
        else:
            raise CorrectionError(f"{file}: neither a superseded record nor a correction; move it elsewhere")
    events, explained = [], set()
    for name, several in corrections.items():
        current = folder.parent / name
        for file, found in several:
            if found.old not in old or old[found.old] != kept(current, found.old):
                where = kept(current, found.old)
                what = "was edited" if where.is_file() else "is missing"
                raise CorrectionError(f"{file}: {where.name}, the record it was made for, {what}; restore it from git")
            explained.add(old[found.old])
        events += _chain(current, several, old, records)
    if unexplained := sorted(set(old.values()) - explained):
        raise CorrectionError(
            f"{unexplained[0]}: no correction says why it was superseded; `advbench publish` makes one"
        )
    return events


def _chain(
    current: Path, several: list[tuple[Path, Correction]], old: dict[str, Path], records: dict[Path, Record]
) -> list[Event]:
    """Follow the corrections of one record from the first to what stands there today."""
    following = {found.old: found.new for _, found in several if found.new is not None}
    first = sorted({found.old for _, found in several} - set(following.values()))
    if not first:
        raise CorrectionError(f"{current}: its corrections go in a circle; restore {FOLDER}/ from git")
    digest, reached = first[0], [first[0]]
    while digest in following:
        digest = str(following[digest])
        if digest in reached:
            raise CorrectionError(f"{current}: its corrections go in a circle; restore {FOLDER}/ from git")
        reached.append(digest)
    lost = sorted(str(path) for path, found in several if found.old not in reached)
    if lost:
        raise CorrectionError(f"{lost[0]}: no correction leads from what it supersedes to {current.name}; restore it")
    withdrawn = digest in {found.old for _, found in several if found.kind == "withdrawn"}
    if withdrawn and current in records:
        raise CorrectionError(f"{current}: was withdrawn and stands there; publish it with --replace and --reason")
    if not withdrawn and current not in records:
        raise CorrectionError(f"{current}: is missing and was not withdrawn; `advbench publish --withdraw` says why")
    if not withdrawn and file_sha256(current) != digest:
        raise CorrectionError(f"{current}: is not what its last correction put there; publish it with --replace")
    past = {digest: Record.load(path) for digest, path in old.items() if digest in reached}
    events = []
    for path, found in sorted(several, key=lambda one: (reached.index(one[1].old), one[1].kind == "replaced")):
        after = past.get(found.new, records.get(current)) if found.new is not None else None
        before = past[found.old]
        if after is not None and identity(after) != identity(before):
            raise CorrectionError(f"{path}: protocol, method or seed differ before and after; that is no correction")
        events.append(Event(found, before, after, path))
    return events


def identity(record: Record) -> tuple[str, str, int]:
    """Return what a correction never changes: protocol digest, method, seed."""
    return record.protocol_digest, record.method.name, record.seed
