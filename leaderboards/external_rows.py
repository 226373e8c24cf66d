"""External rows beside a board: networks that others trained, attacked here under its protocol, never ranked."""

from collections.abc import Sequence
from dataclasses import replace

from advbench.benchmark.records.external import ExternalRecord
from advbench.benchmark.records.statistics import Interval, wilson
from advbench.leaderboards.exclusions import summarize_flags, withholding
from advbench.leaderboards.measures import ACCURACIES, data_marks
from advbench.leaderboards.table import EXTERNAL, MARKS, Cell, Note, Quoted, Table, decimals


def beside(table: Table, rows: Sequence[ExternalRecord]) -> Table:
    """Return a board with the external rows of its digest in `Table.external`, by label: the order says nothing."""
    found = sorted((row for row in rows if row.protocol_digest == table.digest), key=lambda row: row.label)
    if not found:
        return table
    text = (
        f"{EXTERNAL}: other recipes, networks and perhaps data; the attacks are the protocol's. Neither ranked nor "
        "compared with the rows that were trained here."
    )
    notes = [Note(text, f"{EXTERNAL}: not ranked.")]
    notes += [
        Note(f"{EXTERNAL}: {row.label} replaced on {entry.date}: {entry.reason}; sha256 before {entry.old[:12]}.")
        for row in found
        for entry in row.replaced
    ]
    return replace(table, external=tuple(map(_quote, found)), notes=(*table.notes, *notes))


def _quote(row: ExternalRecord) -> Quoted:
    evaluation = row.evaluation
    masked = MARKS["masking"] if withholding([evaluation], row.protocol.flags) else ""
    label = f"{row.label} {masked}".strip()
    about = [row.source, row.licence, f"{row.network} ({row.kind}), sha256 {row.sha256[:16]}", row.note]
    return Quoted(
        method="",
        label=label,
        checkpoint="as given",
        family="",
        key="",
        source="; ".join(filter(None, about)),
        cells={
            "method": Cell(text=label),
            "checkpoint": Cell(text="as given"),
            **{column: _accuracy(row, column) for column in ACCURACIES},
            "data": Cell(text=", ".join(data_marks(row)) or "verified"),
            "flags": Cell(text=summarize_flags([evaluation])),
        },
        decimals=decimals(evaluation.columns["clean"].n),
        origin="external",
    )


def _accuracy(row: ExternalRecord, column: str) -> Cell:
    share, images = row.evaluation.accuracy(column), row.evaluation.columns["clean"].n
    if share is None:
        return Cell(state="missing", reason="not measured")
    low, high = wilson(round(share * images), images)
    return Cell(values=(100 * share,), expected=1, interval=Interval(100 * low, 100 * high))
