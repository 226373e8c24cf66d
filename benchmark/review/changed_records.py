"""What a branch does to published records, as git sees it: which are new, which were corrected without a word."""

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from advbench.benchmark.records import corrections, external
from advbench.benchmark.records.publish import destination
from advbench.benchmark.records.schema import Record
from advbench.benchmark.review.consistency import name
from advbench.benchmark.review.finding import Finding


class RevisionError(ValueError):
    """A revision that git cannot compare with; the message is one line."""


def changed(base: str, records: Path) -> list[Path]:
    """Return the files of current records that were added or changed since a revision.

    Raises:
        RevisionError: if git cannot say.
    """
    differing = _differing(base, records, "--diff-filter=d")
    return [path for path in differing if path.name != corrections.NAME and path.parent.name != external.FOLDER]


def silent_corrections(base: str, records: Path) -> Iterator[Finding]:
    """Refuse published records that were replaced or removed since a revision without a correction that says why."""
    for path in _differing(base, records, "--diff-filter=MD", "--no-renames"):
        before = _git(base, "show", f"{base}:./{path.as_posix()}")
        now = corrections.load(path.parent)
        if path.name == corrections.NAME:
            if set(corrections.parse(before, path)) <= set(now):
                continue
            message = "what is recorded of a correction never changes: restore it"
        elif path.parent.name == external.FOLDER:
            replaced = external.ExternalRecord.load(path).replaced if path.exists() else ()
            if hashlib.sha256(before).hexdigest() in {entry.old for entry in replaced}:
                continue
            message = "an external row was changed or removed: `advbench publish --external` with --replace says why"
        elif (path.name, hashlib.sha256(before).hexdigest()) in {(entry.record, entry.old) for entry in now}:
            continue
        else:
            message = "a published record was changed or removed: `advbench publish --replace` or --withdraw says why"
        yield Finding("silent correction", "refused", str(path), message)


def misplaced(placed: Iterable[tuple[Record, Path]], records: Path) -> Iterator[Finding]:
    """Refuse records that lie where another one belongs."""
    for record, path in placed:
        due = destination(record, records)
        if path.resolve() != due.resolve():
            yield Finding("misplaced", "refused", name(record), f"{path} is not where it belongs, {due}")


def _differing(base: str, records: Path, *options: str) -> list[Path]:
    names = _git(base, "diff", "--name-only", "--relative", *options, "-z", base, "--", str(records)).decode()
    return [path for path in map(Path, names.split("\0")) if path.suffix == ".json"]


def _git(base: str, *words: str) -> bytes:
    done = subprocess.run(["git", *words], capture_output=True, check=False)
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()
        raise RevisionError(f"git cannot compare with {base}: {message}; name another revision with --base")
    return done.stdout
