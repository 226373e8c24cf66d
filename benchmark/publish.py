"""Publish: copy the records of finished runs to where boards read them. Torch-free."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from advbench.benchmark.records import Record
from advbench.benchmark.sealed import write_bytes


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


def publish(records: Iterable[Record], root: Path, *, replace: bool = False) -> tuple[Path, ...]:
    """Write records under `root`; return the paths that changed. A record that is there already is left as it is.

    Args:
        records: what to publish.
        root: such as `leaderboards/records`.
        replace: overwrite records that say something else.

    Raises:
        PublishError: if a different record stands in the place and `replace` is False, or two claim the same place.
    """
    taken: dict[Path, str] = {}
    due: list[tuple[Path, Record]] = []
    for record in records:
        path = destination(record, root)
        if path in taken:
            raise PublishError(f"{path}: runs {taken[path]} and {record.run} claim the same place: publish one of them")
        taken[path] = record.run
        if path.exists():
            old = Record.load(path)
            if old.model_copy(update={"created": record.created}) == record:
                continue
            if not replace:
                raise PublishError(f"{path}: another record (run {old.run}) is published there; replace it on purpose")
        due.append((path, record))
    for path, record in due:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, record.dumps().encode())
    return tuple(path for path, _ in due)
