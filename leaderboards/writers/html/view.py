"""What the template of boards shows: every text of a board's table, and the data its scripts need beside it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from advbench.benchmark.records.rank_sets import OrderedComparison
from advbench.leaderboards import correction_notes
from advbench.leaderboards.table import ELSEWHERE, EXTERNAL, MARKS, Cell, Column, Quoted, Row, Table, show
from advbench.leaderboards.writers.escaping import display, split_address
from advbench.leaderboards.writers.html.column_guide import GROUPS, MARKERS, MEANING, group, marker

MEASURES = ("accuracy", "points", "amount")
"""Kinds of columns that can be plotted and compared."""


class Links(NamedTuple):
    """What a site knows of a board beside its table.

    Attributes:
        protocol: address of the protocol's page.
        methods: addresses of the pages of methods, by name.
        runs: run → its page, record file, and weights and epochs by checkpoint.
        raised: run → names of the flags raised on any of its checkpoints.
        corrected: what was corrected, as `corrected.entries` returns it.
    """

    protocol: str
    methods: Mapping[str, str]
    runs: Mapping[str, Mapping[str, Any]]
    raised: Mapping[str, Sequence[str]]
    corrected: Sequence[dict[str, Any]] = ()


def minus(text: str) -> str:
    """Return a number as text with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def view(table: Table, links: Links | None = None, *, decimals: int | None = None, suffix: str = "") -> dict[str, Any]:
    """Return what `board_sections.html` shows of a board, or of a selection of it.

    Args:
        table: the board, with published numbers if they are to be shown.
        links: of a site; without them a row leads to its paper, and runs and corrections to nothing.
        decimals: places of accuracies; by default as many as the test set supports.
        suffix: of the identifiers, which tells boards on one page apart.
    """
    places = table.decimals if decimals is None else decimals
    labels = {row.key: row.label for row in table.rows}
    order = {key: number for number, key in enumerate(labels)}
    ids = {key: f"row-{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')}-" for key, label in labels.items()}
    times = Counter(ids.values())
    ids = {key: text if times[text] == 1 else f"{text}{order[key]}-" for key, text in ids.items()}
    raised = links.raised if links else {}
    flags = {key: _flags([row for row in table.rows if row.key == key], raised) for key in labels}
    corrected = [entry | {"page": links.methods.get(entry["method"], "")} for entry in links.corrected] if links else []
    told = {note.text for note in correction_notes.notes(table.history)} if corrected else set()
    notes = [note.text for note in table.notes if note.text not in told]
    groups = {group(column) for column in table.columns} | {"evidence"}
    return {
        "suffix": suffix,
        "name": table.name,
        "protocol": table.protocol,
        "anchor": table.digest[:16] + (suffix if table.part else ""),
        "digest": table.digest,
        "divisions": ("all", "closed", "open") if not table.part else ("all", *{row.division for row in table.rows}),
        "protocol_page": links.protocol if links else "",
        "marks": table.marks,
        "dataset": display(table.dataset),
        "network": display(table.network),
        "threat": table.threat,
        "images": table.images,
        "empty": _empty(table),
        "notices": (),
        "seeds": sorted({seed for row in table.rows for seed in row.seeds}),
        "methods": len(labels),
        "heads": [_head(column) for column in table.columns],
        "groups": [(key, label) for key, label in GROUPS.items() if key in groups],
        "marked": [mark for mark in MARKS if any(mark in row.marks for row in table.rows)],
        "flagged": sorted({name for row in table.rows for run in row.runs for name in raised.get(run, ())}),
        "plotted": sum(column.kind in MEASURES for column in table.columns) > 1,
        "rows": [
            {
                "id": ids[row.key] + row.checkpoint,
                "checkpoint": row.checkpoint,
                "variant": order[row.key],
                "flags": " ".join(flags[row.key]),
                "date": row.date,
                "division": row.division,
                "text": f"{row.label} {row.identity.name} {row.identity.family} {row.identity.venue}".lower(),
                "family": row.identity.family,
                "marker": marker(row.identity.family),
                "page": _page(row, links),
                "signs": row.signs,
                "venue": row.identity.venue,
                "year": row.identity.year,
                "label": row.label,
                "cells": [_cell(row.cells[column.key], column, places) for column in table.columns],
                "runs": [
                    {"seed": seed, "page": links.runs[run]["page"] if links else ""}
                    for seed, run in zip(row.seeds, row.runs, strict=True)
                ],
            }
            for row in table.rows
        ],
        "parts": [
            {
                "id": part.mark.replace("as ", ""),
                "heading": part.heading,
                "mark": part.mark,
                "heads": [(column.heading, column.kind) for column in part.columns(table.columns)],
                "others": any(row.other for row in part.rows),
                "rows": [_quoted(row, part.columns(table.columns), links) for row in part.rows],
                "notes": [text.removeprefix(f"{part.heading}: ") for text in notes if text.startswith(part.heading)],
            }
            for part in table.beside
        ],
        "notes": [text for text in notes if not text.startswith((ELSEWHERE, EXTERNAL))],
        "comparisons": [
            {
                "a": labels[claim.better],
                "b": labels[claim.worse],
                "difference": minus(f"{100 * claim.difference:+.{places}f}"),
                "error": f"{100 * claim.error:.{places}f}",
                "df": f"{claim.df:.0f}",
                "p": f"{claim.p:.2g}",
                "adjusted": f"{claim.adjusted:.2g}",
                "verdict": f"{labels[claim.better]} ahead" if claim.holds else "open",
            }
            for claim in _claims(table)
        ],
        "corrected": corrected,
        "corrected_heads": correction_notes.HEADS,
        "data": _data(table, links, order, places),
    }


def _claims(table: Table) -> list[OrderedComparison]:
    """Return the claims of rows against those below them, both of which are shown."""
    shown = {row.key for row in table.rows}
    claims = table.ranking.downward if table.ranking else ()
    return [claim for claim in claims if {claim.better, claim.worse} <= shown]


def _empty(table: Table) -> str:
    """Say why a board has no row."""
    if table.images:
        return "No row of this board is shown."
    if table.history:
        return "Every record under this protocol was withdrawn."
    return "No record has been published under this protocol yet."


def _page(row: Row, links: Links | None) -> str:
    """Return where the name of a row leads: to its card on a site, else to its paper."""
    if links:
        return links.methods[row.identity.name]
    return row.identity.url if row.identity.url.startswith(("https://", "http://")) else ""


def _flags(rows: Sequence[Row], raised: Mapping[str, Sequence[str]]) -> list[str]:
    """Return marks and raised flags of a variant on either checkpoint."""
    marks = [mark for row in rows for mark in row.marks]
    return list(dict.fromkeys([*marks, *(name for row in rows for run in row.runs for name in raised.get(run, ()))]))


def _head(column: Column) -> dict[str, str]:
    better_low = column.kind in {"rank", "amount", "points", "text"}
    return {
        "key": column.key,
        "label": column.short if column.kind == "points" or column.key == "checkpoint" else column.label,
        "unit": column.unit,
        "kind": column.kind,
        "group": group(column),
        "first": "ascending" if better_low else "descending",
        "meaning": MEANING.get(column.key, ""),
    }


def _cell(cell: Cell, column: Column, decimals: int) -> dict[str, Any]:
    """Return a cell for the template: what is shown, and in attributes its mean, its spread and its seeds' values."""
    shown = show(cell, column, decimals)
    text = shown._replace(main="", sign="", interval=None, unit="" if column.unit else shown.unit).plain.strip()
    mean = None if column.kind == "text" else cell.mean
    values, spread = "", ""
    if mean is not None and column.kind in MEASURES:
        values = " ".join(show(Cell(values=(value,), expected=1), column, decimals).main for value in cell.values)
    if mean is not None and cell.sd is not None:
        spread = f"{cell.sd:.4g} {cell.sd:.4g}"
    elif mean is not None and cell.interval is not None and column.kind in MEASURES:
        spread = f"{mean - cell.interval.low:.4g} {cell.interval.high - mean:.4g}"
    return {
        "key": column.key,
        "kind": column.kind,
        "mean": "" if mean is None else repr(mean).removesuffix(".0"),
        "each": values,
        "spread": spread,
        "reason": cell.reason,
        "state": cell.state not in {"measured", "not applicable"},
        "main": shown.main if mean is None else minus(shown.main),
        "sign": shown.sign,
        "small": text,
        "interval": minus(" to ".join(shown.interval)) if shown.interval else "",
        "bold": cell.bold,
    }


def _quoted(row: Quoted, columns: Sequence[Column], links: Links | None) -> dict[str, Any]:
    """Return a row beside the board, with its source."""
    before, address, after = split_address(row.source)
    return {
        "label": row.label,
        "page": links.methods.get(row.method, "") if links else "",
        "family": row.family,
        "marker": marker(row.family) if row.family else None,
        "text": f"{row.label} {row.method} {row.family} {row.source}".lower(),
        "checkpoint": row.checkpoint,
        "cells": [(show(row.cell(column.key), column, row.decimals).plain, column.kind) for column in columns],
        "other": row.other,
        "before": before,
        "address": address,
        "after": after,
    }


def _data(table: Table, links: Links | None, order: Mapping[str, int], decimals: int) -> dict[str, Any]:
    """Return what the scripts need beside the table itself; rows by their position, variants by their number."""
    seeds = {run: {"seed": seed} for row in table.rows for seed, run in zip(row.seeds, row.runs, strict=True)}
    return {
        "decimals": decimals,
        "markers": MARKERS,
        "columns": [
            {
                "key": column.key,
                "label": column.label,
                "kind": column.kind,
                "unit": column.unit,
                "meaning": MEANING.get(column.key, ""),
            }
            for column in table.columns
        ],
        "rows": [
            {
                "variant": order[row.key],
                "name": re.sub(r"[^a-z0-9.]+", "-", row.label.lower()).strip("-") or row.identity.name,
                "label": row.label,
                "sound": not {"masking", "invalid"} & set(row.marks),
                "robust": row.identity.robust,
                "runs": list(row.runs),
                "notes": list(row.notes),
                "paper": f"{row.identity.title}. {row.identity.venue} {row.identity.year}",
            }
            for row in table.rows
        ],
        "runs": {run: seed | dict(links.runs[run] if links else {}) for run, seed in seeds.items()},
        "comparisons": [
            [
                order[claim.better],
                order[claim.worse],
                round(100 * claim.difference, 4),
                round(100 * claim.error, 4),
                float(f"{claim.p:.2g}"),
                float(f"{claim.adjusted:.2g}"),
                int(claim.holds),
            ]
            for claim in _claims(table)
        ],
    }
