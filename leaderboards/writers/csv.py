"""Write a board as CSV for programs: one column for mean, sd, bounds and count each, full precision."""

import csv
import io

from advbench.leaderboards import correction_notes
from advbench.leaderboards.table import Cell, Column, Quoted, Row, Table
from advbench.leaderboards.writers.escaping import plain_cell

MEASURED = "measured here"
"""The field `origin` of what was trained and attacked here; of other rows it is `Quoted.origin`: never average them."""


def write(table: Table) -> str:
    """Return the board as CSV with a header and no notes.

    Text columns are one field. Others are KEY (mean), and where they have them KEY_sd, KEY_low, KEY_high (Wilson 95 %)
    and KEY_n (seeds measured); a rank is the set rank_low to rank_high, with rank_pareto. What was not measured is
    empty, with the reason in KEY_state. The last fields name the protocol, its digest, the methods' identity, the seeds
    and the runs; `origin` tells rows quoted from a `source` and networks trained elsewhere (both at the end) from those
    trained and measured here, and `corrections` holds the board's, in every row.
    """
    out = io.StringIO()
    header = list(_fields(table, None, None))
    writer = csv.DictWriter(out, fieldnames=header, lineterminator="\n")
    writer.writeheader()
    for part in table.whole:
        writer.writerows(_fields(table, row, None) for row in part.rows)
    writer.writerows(_fields(table, None, one) for part in table.beside for one in part.rows)
    return out.getvalue()


def _fields(table: Table, row: Row | None, quoted: Quoted | None) -> dict[str, str]:
    """Return the fields of a measured or of a quoted row; which there are depends on the table alone."""
    fields: dict[str, str] = {}
    columns = {column.key: column for part in reversed(table.whole) for column in part.columns}
    first = [column.key for part in table.whole for column in part.columns]
    for column in [columns[key] for key in dict.fromkeys(first)]:
        cell = Cell()
        if row:
            cell = row.cells.get(column.key, Cell(state="not applicable"))
        elif quoted:
            cell = quoted.cell(column.key)
        told = _cell(cell, column)
        if quoted and quoted.origin == "as published" and f"{column.key}_n" in told:
            told[f"{column.key}_n"] = ""  # no source says of how many seeds
            told[f"{column.key}_state"] = quoted.origin if cell.state == "measured" else cell.state
        fields.update(told)
    fields |= dict.fromkeys(("marks", "notes", "method_name", "family"), "")
    if row:
        fields["marks"] = " ".join(row.marks)
        fields["notes"] = plain_cell("; ".join(row.notes))
        fields["method_name"] = plain_cell(row.identity.name)
        fields["family"] = plain_cell(row.identity.family)
    elif quoted:
        fields["notes"] = plain_cell(quoted.other)
        fields["method_name"] = plain_cell(quoted.method)
        fields["family"] = plain_cell(quoted.family)
    return fields | {
        "protocol": plain_cell(table.protocol),
        "digest": table.digest,
        "board_marks": "; ".join(table.marks),
        "images": str(table.images) if row else "",
        "seed_list": " ".join(str(seed) for seed in row.seeds) if row else "",
        "runs": " ".join(row.runs) if row else "",
        "date": row.date if row else "",
        "division": row.division if row else "",
        "origin": quoted.origin if quoted else MEASURED,
        "source": plain_cell(quoted.source) if quoted else "",
        "corrections": plain_cell(" | ".join(correction_notes.sentence(change) for change in table.history)),
    }


def _cell(cell: Cell, column: Column) -> dict[str, str]:
    """Return the fields of a cell; which there are depends on the column alone, so that rows agree."""
    key = column.key
    if column.kind == "text":
        return {key: plain_cell(cell.text)}
    low, high = cell.interval or (None, None)
    ends = {f"{key}_low": _number(low), f"{key}_high": _number(high)}
    if column.kind == "rank":
        return ends | {f"{key}_pareto": "yes" if cell.sign else "", f"{key}_state": cell.state}
    fields = {key: _number(cell.mean)}
    if column.kind in {"accuracy", "points"}:
        fields |= {f"{key}_sd": _number(cell.sd), **ends, f"{key}_n": str(cell.n)}
    elif column.kind == "amount" and not column.unit:
        fields |= {f"{key}_unit": cell.unit}
    elif column.kind == "count":
        fields |= {f"{key}_note": cell.text}
    if column.kind != "count":
        fields |= {f"{key}_state": cell.state}
    return fields


def _number(value: float | None) -> str:
    return "" if value is None else repr(value).removesuffix(".0")
