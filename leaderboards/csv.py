"""Write a board as CSV for programs: one column for mean, sd, bounds and count each, full precision."""

import csv
import io

from advbench.leaderboards.table import Cell, Column, Row, Table

FORMULA = ("=", "+", "-", "@", "\t")
"""Spreadsheets execute cells that begin so; a name that does is quoted."""


def write(table: Table) -> str:
    """Return the board as CSV with a header and no notes.

    Text columns are one field. Others are KEY (mean), and where they have them KEY_sd, KEY_low, KEY_high (Wilson 95 %)
    and KEY_n (seeds measured). What was not measured is empty, with the reason in KEY_state. The last fields name
    the protocol, its digest, the methods' identity, the seeds and the runs.
    """
    out = io.StringIO()
    rows = [_fields(table, row) for row in table.rows]
    header = list(rows[0]) if rows else [column.key for column in table.columns]
    writer = csv.DictWriter(out, fieldnames=header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _fields(table: Table, row: Row) -> dict[str, str]:
    fields: dict[str, str] = {}
    for column in table.columns:
        fields.update(_cell(row.cells[column.key], column))
    fields.update(
        {
            "marks": " ".join(row.marks),
            "notes": _plain("; ".join(row.notes)),
            "method_name": _plain(row.identity.name),
            "family": _plain(row.identity.family),
            "protocol": _plain(table.protocol),
            "digest": table.digest,
            "board_marks": "; ".join(table.marks),
            "images": str(table.images),
            "seed_list": " ".join(str(seed) for seed in row.seeds),
            "runs": " ".join(row.runs),
        }
    )
    return fields


def _cell(cell: Cell, column: Column) -> dict[str, str]:
    """Return the fields of a cell; which there are depends on the column alone, so that rows agree."""
    key = column.key
    if column.kind == "text":
        return {key: _plain(cell.text)}
    fields = {key: _number(cell.mean)}
    if column.kind in {"accuracy", "points"}:
        low, high = cell.interval or (None, None)
        fields |= {f"{key}_sd": _number(cell.sd), f"{key}_low": _number(low), f"{key}_high": _number(high)}
        fields |= {f"{key}_n": str(cell.n)}
    elif column.kind == "amount" and not column.unit:
        fields |= {f"{key}_unit": cell.unit}
    elif column.kind == "count":
        fields |= {f"{key}_note": cell.text}
    if column.kind != "count":
        fields |= {f"{key}_state": cell.state}
    return fields


def _number(value: float | None) -> str:
    return "" if value is None else repr(value).removesuffix(".0")


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
