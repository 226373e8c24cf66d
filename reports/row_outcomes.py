"""Outcomes per test image, row by row: what is compared, counted by class, and drawn. Torch-free."""

from collections.abc import Mapping, Sequence

import numpy as np

from advbench.benchmark.records.schema import COLUMNS, Record
from advbench.benchmark.records.statistics import Correct
from advbench.leaderboards.table import Table
from advbench.reports.drawing.style import ReportError


def outcomes(records: Sequence[Record], checkpoint: str, column: str) -> Correct | None:
    """Return the outcomes (seeds, images) of the records that have this column, in order of seeds; None of none."""
    rows = []
    for record in sorted(records, key=lambda record: record.seed):
        found = record.checkpoints.get(checkpoint)  # type: ignore[call-overload]  # any text
        if found is None:
            continue
        evaluation = found.evaluation
        bits = evaluation.worst if column == "worst" else None
        if column in evaluation.columns:
            bits = evaluation.columns[column].correct
        if bits is not None:
            rows.append(bits)
    return np.stack(rows) if rows else None


def ranked(table: Table, records: Sequence[Record], checkpoint: str, column: str) -> dict[str, Correct]:
    """Return the outcomes of the complete rows of a board under one attack, where it was measured, by their labels."""
    of = {record.run: record for record in records}
    complete = table.ranking.order if table.ranking else ()
    rows = {row.label: [of[run] for run in row.runs] for row in table.rows if row.key in complete}
    found = {label: outcomes(several, checkpoint, column) for label, several in rows.items()}
    return {label: correct for label, correct in found.items() if correct is not None}


Groups = Mapping[str, Sequence[Record]]
"""Records by the name of their row, in the order of the rows."""


def on_board(table: Table, records: Sequence[Record], checkpoint: str) -> Groups:
    """Group records as the rows of a board do, in its order, by the label and the signs of the rows of a checkpoint.

    Records of rows that it does not show are left out.
    """
    of = {record.run: record for record in records}
    rows = {row.key: row for row in table.rows} | {row.key: row for row in table.rows if row.checkpoint == checkpoint}
    return {f"{row.label} {row.signs}".strip(): [of[run] for run in row.runs] for row in rows.values()}


def by_row(groups: Groups, checkpoint: str, column: str) -> dict[str, Correct]:
    """Return the outcomes of every row that has this column.

    Raises:
        ReportError: if none has.
    """
    found = {name: outcomes(records, checkpoint, column) for name, records in groups.items()}
    rows = {name: correct for name, correct in found.items() if correct is not None}
    if not rows:
        raise ReportError(f"no record has {column} on {checkpoint}; `advbench evaluate` measures it")
    return rows


def by_attack(groups: Groups, checkpoint: str) -> Mapping[str, Mapping[str, Correct]]:
    """Return the outcomes of every row by column, of the seeds on which every column of the row was measured."""
    rows: dict[str, dict[str, Correct]] = {}
    for name, records in groups.items():
        own = [record for record in records if checkpoint in record.checkpoints]
        measured = {record.run: set(record.checkpoints[checkpoint].evaluation.columns) for record in own}  # type: ignore[index]  # any text
        wanted = set().union(*measured.values())
        whole = [record for record in own if measured[record.run] == wanted]
        found = {column: outcomes(whole, checkpoint, column) for column in COLUMNS}
        rows[name] = {column: correct for column, correct in found.items() if correct is not None}
    return rows
