"""Publish: copy the records of finished runs to where boards read them; replace and withdraw openly. Torch-free."""

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from advbench.benchmark.files import file_sha256, write_bytes
from advbench.benchmark.records import corrections
from advbench.benchmark.records.corrections import Correction, record_files
from advbench.benchmark.records.schema import Record


class PublishError(ValueError):
    """A record that must not be published; the message is one line."""


def variant(record: Record) -> str:
    """Return a folder name for a row: "trades", "trades-beta-3.0", "trades-tuned-6x1", "mart-own-recipe"."""
    changed = {} if record.tuning else record.method.changed  # one place for whatever setting tuning chooses
    name = record.method.name
    if record.tuning:
        budget = record.tuning.budget
        name += f"-tuned-{budget.settings}x{budget.seeds}"
    elif record.recipe:
        name += "-own-recipe"
    if not changed:
        return name
    text = "-".join(f"{key}-{value}" for key, value in sorted(changed.items()))
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", text)
    if safe != text or len(safe) > 80:  # two variants must not share a name
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        safe = f"{safe[:80]}-{digest}"
    return f"{name}-{safe}"


def destination(record: Record, root: Path) -> Path:
    """Return where a record belongs under a folder of published records."""
    slug = record.protocol_name.replace("/", "-")
    return root / slug / variant(record) / f"seed{record.seed}.json"


def publish(
    records: Iterable[Record], root: Path, *, replace: bool = False, reason: str = "", day: date | None = None
) -> tuple[Path, ...]:
    """Write records under `root`; return the records' paths that changed. What is there already is left as it is.

    Args:
        records: what to publish.
        root: such as `leaderboards/records`.
        replace: supersede records that say something else; the board shows that, and the reason. A record that was
            withdrawn is brought back only so.
        reason: why; needed as soon as a record is superseded.
        day: of the correction; today in UTC by default.

    Raises:
        PublishError: if a different record stands in the place (or was withdrawn from it) and `replace` is False or has
            no reason, if the record stood there before, or if two claim the same place. Nothing is written then.
        CorrectionError: if an earlier correction of the place is spoilt.
    """
    taken: dict[Path, str] = {}
    due: list[tuple[Path, Record, Correction | None]] = []
    for record in records:
        if record.division == "trial":
            raise PublishError(
                f"run {record.run}: a trial of tuning, which is on no board; publish the tuned row's runs"
            )
        path = destination(record, root)
        if path in taken:
            raise PublishError(f"{path}: runs {taken[path]} and {record.run} claim the same place: publish one of them")
        taken[path] = record.run
        old = Record.load(path) if path.exists() else None
        if old is not None and old.model_copy(update={"created": record.created}) == record:
            continue
        due.append((path, record, _superseding(record, path, old, reason if replace else None, day)))
    for path, record, correction in due:
        path.parent.mkdir(parents=True, exist_ok=True)
        if correction is not None:
            corrections.add(path.parent, correction)
        write_bytes(path, record.dumps().encode())
    return tuple(path for path, _, _ in due)


def withdraw(path: Path, *, reason: str, day: date | None = None) -> Path:
    """Take a published record off the board for a reason, which the board shows; return the correction's file.

    Raises:
        PublishError: if there is no such record or no reason.
    """
    if path.name == corrections.NAME or not path.is_file():
        raise PublishError(f"{path}: no published record; name its file, or the run it holds")
    before = _before(Record.load(path), path)
    written = corrections.add(path.parent, Correction(kind="withdrawn", **before, **_why(reason, day)))
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


def _superseding(
    record: Record, path: Path, old: Record | None, reason: str | None, day: date | None
) -> Correction | None:
    """Return the correction that a record needs to take its place; None if the place was always empty.

    Args:
        record: what is to be published.
        path: its place.
        old: another record that stands there, if one does.
        reason: why it may supersede, empty if that was not said; None where it must not.
        day: of the correction.
    """
    past = [correction for correction in corrections.load(path.parent) if correction.record == path.name]
    new = hashlib.sha256(record.dumps().encode()).hexdigest()
    for earlier in past:
        if earlier.old == new:
            raise PublishError(
                f"{path}: this record was {earlier.kind} on {earlier.date} ({earlier.reason}) and does not come back; "
                "evaluate the run again, or revert that in git"
            )
    if old is not None:
        before = _before(old, path)
    elif not past:
        return None
    elif past[-1].kind == "withdrawn":
        before = past[-1].model_dump(exclude={"kind", "date", "reason"})
    else:
        raise PublishError(f"{path}: is missing and was not withdrawn; restore it from git")
    if reason is None:
        state = "was withdrawn from" if old is None else "is published"
        raise PublishError(
            f"{path}: another record (run {before['old_run']}) {state} there; "
            "replace it on purpose with --replace --reason"
        )
    after = {
        "new": new,
        "new_run": record.run,
        "clean_after": _percent(record, "clean"),
        "autoattack_after": _percent(record, "autoattack"),
    }
    correction = Correction(kind="replaced", **before | after, **_why(reason, day))
    if correction.identity != (record.protocol_digest, record.method.name, record.seed):
        raise PublishError(f"{path}: the record there has another protocol digest, method or seed: publish elsewhere")
    return correction


def _before(record: Record, path: Path) -> dict[str, Any]:
    """Return what a correction says of the record that stands at a path."""
    tested = [outcomes.n for saved in record.checkpoints.values() for outcomes in saved.evaluation.columns.values()]
    return {
        "protocol": record.protocol_name,
        "digest": record.protocol_digest,
        "record": path.name,
        "method": record.method.name,
        "label": record.method.row,
        "seed": record.seed,
        "images": max(tested, default=record.data.test),
        "old": file_sha256(path),
        "old_run": record.run,
        "clean_before": _percent(record, "clean"),
        "autoattack_before": _percent(record, "autoattack"),
    }


def _percent(record: Record, column: str) -> float | None:
    """Return an accuracy on the best checkpoint in percent."""
    best = record.checkpoints.get("best")
    share = None if best is None else best.evaluation.accuracy(column)
    return None if share is None else 100 * share


def _why(reason: str, day: date | None) -> dict[str, Any]:
    """Return reason and day of a correction.

    Raises:
        PublishError: if there is no reason.
    """
    if not reason.strip():
        raise PublishError('a published record is superseded only with its reason: add --reason "why"')
    return {"reason": " ".join(reason.split()), "date": day or datetime.now(UTC).date()}
