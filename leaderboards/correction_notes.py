"""The corrections of a board: from verified files to sentences, notes, and a list of its own."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from advbench.benchmark.records.corrections import Event
from advbench.benchmark.records.schema import Record
from advbench.leaderboards.measures import ACCURACIES, test_images
from advbench.leaderboards.table import Table, decimals
from advbench.leaderboards.table_rows import Change, Note
from advbench.leaderboards.writers.escaping import plain_cell
from advbench.leaderboards.writers.markdown import escape

MOVED = ("clean", "autoattack")
"""Columns whose change on best a correction shows."""
HEADS = tuple(f"{ACCURACIES[key][0]}, best" for key in MOVED)
"""Their headings."""
NOTED = 10
"""Corrections that are noted below a board; `advbench leaderboard --history` lists all."""
FIELDS = ("protocol", "digest", "date", "kind", "method", "label", "seed", "reason", "old", "new", "old_run", "new_run")


def changes(events: Iterable[Event], digest: str) -> tuple[Change, ...]:
    """Return the corrections of the board of a protocol digest, oldest first."""
    return tuple(_change(event) for event in events if event.before.protocol_digest == digest)


def _change(event: Event) -> Change:
    correction, before, after = event.correction, event.before, event.after
    moved = {key: (_percent(before, key), None if after is None else _percent(after, key)) for key in MOVED}
    what = "withdrawn" if after is None else "measured again"
    places = decimals(test_images([before]))
    steps = [] if after is None else [_step(key, *moved[key], places) for key in MOVED]
    said = f" ({'; '.join(steps)})" if steps else ""
    return Change(
        date=correction.date.isoformat(),
        kind=correction.kind,
        label=before.method.row,
        method=before.method.name,
        seed=before.seed,
        reason=correction.reason,
        old=correction.old,
        new=correction.new,
        old_run=before.run,
        new_run=None if after is None else after.run,
        moved=moved,
        text=f"{correction.date}: {event.title}, {what}{said}: {correction.reason.rstrip('.')}. "
        f"Superseded record: sha256 {correction.old[:16]}.",
    )


def _percent(record: Record, column: str) -> float | None:
    best = record.checkpoints.get("best")
    share = None if best is None else best.evaluation.accuracy(column)
    return None if share is None else 100 * share


def _step(key: str, before: float | None, after: float | None, places: int) -> str:
    first, second = ("not measured" if one is None else f"{one:.{places}f}" for one in (before, after))
    label = ACCURACIES[key][0]
    return f"{label} on best stays {first}" if first == second else f"{label} on best {first} → {second}"


def notes(history: Sequence[Change]) -> list[Note]:
    """Return the notes of a board's corrections, the newest first."""
    if not history:
        return []
    newest = history[::-1][:NOTED]
    said = "; ".join(f"{one.label}, seed {one.seed} ({one.date}, {_word(one)})" for one in newest)
    more = len(history) - len(newest)
    brief = f"Corrected: {said}{f'; {more} earlier' if more else ''}."
    found = [Note(f"Corrected {one.text}", brief if one is newest[0] else "") for one in newest]
    if more:
        found.append(Note(f"{more} earlier corrections: `advbench leaderboard --history` lists them."))
    return found


def _word(change: Change) -> str:
    return "withdrawn" if change.kind == "withdrawn" else "measured again"


def write_markdown(tables: Sequence[Table]) -> str:
    """Return the whole history of boards as Markdown."""
    return _lines(tables, "### ", escape)


def write_text(tables: Sequence[Table]) -> str:
    """Return the whole history of boards as plain text."""
    return _lines(tables, "", str)


def _lines(tables: Sequence[Table], head: str, show: Callable[[str], str]) -> str:
    lines: list[str] = []
    for table in tables:
        lines += [f"{head}{show(table.title)}: corrections", ""]
        lines += [f"- {show(one.text)}" for one in table.history] or ["- No record of this board was ever corrected."]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def write_csv(tables: Sequence[Table]) -> str:
    """Return the whole history of boards as CSV, digests in full, accuracies on best in percent."""
    out = io.StringIO()
    moved = [f"{key}_{when}" for key in MOVED for when in ("before", "after")]
    writer = csv.DictWriter(out, fieldnames=[*FIELDS, *moved], lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for one in table.history:
            line = {name: getattr(one, name) for name in FIELDS if name not in {"protocol", "digest"}}
            line |= {"protocol": table.protocol, "digest": table.digest}
            line |= {
                f"{key}_{when}": value
                for key in MOVED
                for when, value in zip(("before", "after"), one.moved[key], strict=True)
            }
            writer.writerow({key: "" if value is None else plain_cell(str(value)) for key, value in line.items()})
    return out.getvalue()
