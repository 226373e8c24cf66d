"""The corrections of a board as sentences, notes, and a list of its own."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from advbench.benchmark.records.corrections import Correction
from advbench.leaderboards.measures import ACCURACIES
from advbench.leaderboards.table import Table, decimals
from advbench.leaderboards.table_rows import Note
from advbench.leaderboards.writers.escaping import plain_cell
from advbench.leaderboards.writers.markdown import escape

MOVED: tuple[Literal["clean", "autoattack"], ...] = ("clean", "autoattack")
"""Columns whose change on best a correction shows."""
HEADS = tuple(f"{ACCURACIES[key][0]}, best" for key in MOVED)
"""Their headings."""
NOTED = 10
"""Corrections that are noted below a board; `advbench leaderboard --history` lists all."""
FIELDS = (
    *("protocol", "digest", "date", "kind", "method", "label", "seed", "reason", "old", "new", "old_run", "new_run"),
    *("clean_before", "clean_after", "autoattack_before", "autoattack_after"),
)
"""Columns of the list, attributes of `Correction`."""


def sentence(correction: Correction) -> str:
    """Return a correction in a sentence: day, row, seed, what became of its numbers, and why."""
    places = decimals(correction.images)
    steps = [_step(key, *correction.moved(key), places) for key in MOVED] if correction.new is not None else []
    moved = f" ({'; '.join(steps)})" if steps else ""
    return (
        f"{correction.date}: {correction.label}, seed {correction.seed}, {word(correction)}{moved}: "
        f"{correction.reason.rstrip('.')}. Superseded record: sha256 {correction.old[:16]}."
    )


def _step(key: str, before: float | None, after: float | None, places: int) -> str:
    first, second = ("not measured" if one is None else f"{one:.{places}f}" for one in (before, after))
    label = ACCURACIES[key][0]
    return f"{label} on best stays {first}" if first == second else f"{label} on best {first} → {second}"


def notes(history: Sequence[Correction]) -> list[Note]:
    """Return the notes of a board's corrections, the newest first."""
    if not history:
        return []
    newest = history[::-1][:NOTED]
    rows = "; ".join(f"{change.label}, seed {change.seed} ({change.date}, {word(change)})" for change in newest)
    more = len(history) - len(newest)
    brief = f"Corrected: {rows}{f'; {more} earlier' if more else ''}."
    found = [Note(f"Corrected {sentence(change)}", "" if place else brief) for place, change in enumerate(newest)]
    if more:
        found.append(Note(f"{more} earlier corrections: `advbench leaderboard --history` lists them."))
    return found


def word(change: Correction) -> str:
    """Return what became of a record."""
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
        lines += [f"{head}{show(table.protocol)}: corrections", ""]
        corrected = [f"- {show(sentence(change))}" for change in table.history]
        lines += corrected or ["- No record of this board was ever corrected."]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def write_csv(tables: Sequence[Table]) -> str:
    """Return the whole history of boards as CSV, digests in full, accuracies on best in percent."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=FIELDS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for change in table.history:
            line = change.model_dump(include=set(FIELDS))
            writer.writerow({key: "" if value is None else plain_cell(str(value)) for key, value in line.items()})
    return out.getvalue()
