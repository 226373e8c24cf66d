"""Publish: copy the records of finished runs to where boards read them; replace and withdraw openly. Torch-free."""

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

from advbench.benchmark.files import file_sha256, write_bytes
from advbench.benchmark.records.corrections import (
    FOLDER,
    KINDS,
    Correction,
    identity,
    kept,
    load,
    place,
    record_files,
)
from advbench.benchmark.records.schema import Record


class PublishError(ValueError):
    """A record that must not be published; the message is one line."""


def variant(record: Record) -> str:
    """Return a folder name for method and changed hyper-parameters: "trades", "trades-beta-3.0"."""
    changed = record.method.changed
    if not changed:
        return record.method.name
    text = "-".join(f"{key}-{value}" for key, value in sorted(changed.items()))
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", text)
    if safe != text or len(safe) > 80:  # two variants must not share a name
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        safe = f"{safe[:80]}-{digest}"
    return f"{record.method.name}-{safe}"


def destination(record: Record, root: Path) -> Path:
    """Return where a record belongs under a folder of published records."""
    slug = record.protocol_name.replace("/", "-")
    return root / slug / variant(record) / f"seed{record.seed}.json"


class _Due(NamedTuple):
    """One file to write: the record, and the corrections of what it supersedes with the kept bytes."""

    path: Path
    record: Record
    supersedes: Correction | None


def publish(
    records: Iterable[Record], root: Path, *, replace: bool = False, reason: str = "", day: date | None = None
) -> tuple[Path, ...]:
    """Write records under `root`; return the records' paths that changed. What is there already is left as it is.

    Args:
        records: what to publish.
        root: such as `leaderboards/records`.
        replace: supersede records that say something else: the old file is kept, with the reason, and the board shows
            both. A record that was withdrawn is brought back only so.
        reason: why; needed as soon as a record is superseded.
        day: of the correction; today in UTC by default.

    Raises:
        PublishError: if a different record stands in the place (or was withdrawn from it) and `replace` is False or has
            no reason, if the record stood there before, or if two claim the same place. Nothing is written then.
        CorrectionError: if an earlier correction of the place is spoilt.
    """
    taken: dict[Path, str] = {}
    due: list[_Due] = []
    for record in records:
        path = destination(record, root)
        if path in taken:
            raise PublishError(f"{path}: runs {taken[path]} and {record.run} claim the same place: publish one of them")
        taken[path] = record.run
        old = Record.load(path) if path.exists() else None
        if old is not None and old.model_copy(update={"created": record.created}) == record:
            continue
        due.append(_Due(path, record, _superseding(record, path, old, reason if replace else None, day)))
    for path, record, correction in due:
        if correction is not None:
            _keep(path, correction)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, record.dumps().encode())
    return tuple(path for path, _, _ in due)


def withdraw(path: Path, *, reason: str, day: date | None = None) -> Path:
    """Take a published record off the board for a reason, which the board shows; return the correction's file.

    Raises:
        PublishError: if there is no such record or no reason.
    """
    if FOLDER in path.parts or not path.is_file():
        raise PublishError(f"{path}: no published record; name its file, or the run it holds")
    Record.load(path)
    correction = Correction(
        kind="withdrawn", record=path.name, old=file_sha256(path), date=day or _today(), reason=_said(reason)
    )
    written = _keep(path, correction)
    path.unlink()
    return written


def find(root: Path, word: str) -> Path:
    """Return the published record that is meant by a path, or by a run's identity or its beginning.

    Raises:
        PublishError: if there is none, or several.
    """
    path = Path(word)
    if path.is_file():
        inside = path.resolve().is_relative_to(root.resolve())
        if not inside:
            raise PublishError(f"{path}: lies outside {root}; name the folder of published records with --records")
        return path
    if not root.is_dir():
        raise PublishError(f"{root}: no such folder of published records; name it with --records")
    found = [file for file in record_files(root) if Record.load(file).run.startswith(word)]
    if len(found) != 1:
        raise PublishError(f"{word!r} means {len(found)} records in {root}; name one by its file or run")
    return found[0]


def history_of(path: Path) -> list[Correction]:
    """Return the corrections of the record that belongs at a path, in order of their dates.

    Raises:
        CorrectionError: if one of them is spoilt.
    """
    files = [file for kind in KINDS for file in (path.parent / FOLDER).glob(f"{path.stem}-*.{kind}.json")]
    found = [correction for file in files if (correction := load(file)).record == path.name]
    return sorted(found, key=lambda one: (one.date, one.kind))


def _superseding(
    record: Record, path: Path, old: Record | None, reason: str | None, day: date | None
) -> Correction | None:
    """Return the correction with which a record takes its place; None where the place is free.

    Args:
        record: what is to stand at `path`.
        path: its place.
        old: what stands there.
        reason: why it may supersede, empty if that was not said; None where it must not.
        day: of the correction.
    """
    past = history_of(path)
    new = hashlib.sha256(record.dumps().encode()).hexdigest()
    for one in past:
        if one.old == new:
            what = f"this record was {one.kind} on {one.date} ({one.reason})"
            raise PublishError(f"{path}: {what} and does not come back; evaluate the run again, or revert that in git")
    if old is not None:
        digest = file_sha256(path)
    elif past:
        digest = _withdrawn(path, past).old
        old = Record.load(kept(path, digest))
    else:
        return None
    if reason is None:
        state = "is published" if path.exists() else "was withdrawn from"
        raise PublishError(
            f"{path}: another record (run {old.run}) {state} there; replace it on purpose with --replace --reason"
        )
    if identity(old) != identity(record):
        raise PublishError(f"{path}: the record there has another protocol digest, method or seed: publish elsewhere")
    return Correction(
        kind="replaced", record=path.name, old=digest, new=new, date=day or _today(), reason=_said(reason)
    )


def _withdrawn(path: Path, past: list[Correction]) -> Correction:
    """Return the withdrawal that left a place empty: the one that nothing replaced."""
    replaced = {one.old for one in past if one.kind == "replaced"}
    for one in past:
        if one.kind == "withdrawn" and one.old not in replaced:
            return one
    raise PublishError(f"{path}: is missing and was not withdrawn; restore it from git")


def _keep(path: Path, correction: Correction) -> Path:
    """Keep the bytes of the record at a path, and say beside them why it goes; return the correction's file."""
    (path.parent / FOLDER).mkdir(parents=True, exist_ok=True)
    if path.exists():
        write_bytes(kept(path, correction.old), path.read_bytes())
    written = place(path, correction.old, correction.kind)
    write_bytes(written, correction.dumps().encode())
    return written


def _said(reason: str) -> str:
    """Return a reason in one line.

    Raises:
        PublishError: if there is none.
    """
    if not reason.strip():
        raise PublishError('a published record is superseded only with its reason: add --reason "why"')
    return " ".join(reason.split())


def _today() -> date:
    return datetime.now(UTC).date()
