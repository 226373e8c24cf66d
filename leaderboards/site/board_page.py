"""The page of a board, with the files to download: table, data of the plot and of comparisons, provenance."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from advbench.leaderboards import correction_notes
from advbench.leaderboards.site import downloads, published_block, superseded
from advbench.leaderboards.site.column_guide import GROUPS, MARKERS, MEANING, group, marker
from advbench.leaderboards.site.file_names import slug
from advbench.leaderboards.site.render import page
from advbench.leaderboards.table import ELSEWHERE, MARKS, Cell, Column, Row, Table, show
from advbench.leaderboards.writers.escaping import display


class Shown(NamedTuple):
    """A board on its way to a page.

    Attributes:
        table: the board with published numbers.
        measured: the same board without them.
        stem: name of its page without ending.
        runs: run → what the page says of it: seed, page, record file, weights and epochs by checkpoint.
        raised: run → names of the flags raised on any of its checkpoints.
        corrected: what was corrected on it, as `past.entries` returns it.
        methods: names of the methods that have a page.
        namesakes: how many other boards have the protocol's name.
    """

    table: Table
    measured: Table
    stem: str
    runs: Mapping[str, Mapping[str, Any]]
    raised: Mapping[str, Sequence[str]]
    corrected: Sequence[Mapping[str, Any]] = ()
    methods: frozenset[str] = frozenset()
    namesakes: int = 0


def add(out: dict[str, bytes], shown: Shown) -> list[str]:
    """Add a board's page and downloads to the files of a site; return what its builder should know, in sentences."""
    table, stem = shown.table, shown.stem
    made, warnings = downloads.make(shown.measured, table)
    for one in made:
        out[f"boards/{stem}.{one.ending}"] = one.text.encode()
    out[f"boards/{stem}.html"] = page(
        "board.html",
        root="../",
        here="boards",
        board=_context(table, shown.raised),
        elsewhere=ELSEWHERE,
        published=published_block.block(table, shown.methods),
        corrected=shown.corrected,
        moved=superseded.HEADS,
        slug=stem,
        data=_data(table, shown.runs),
        downloads=[
            (
                kind,
                [{"name": one.name, "file": f"{stem}.{one.ending}", "bytes": len(one.text.encode())} for one in some],
            )
            for kind, some in groupby(made, key=lambda one: one.kind)
        ],
        warnings=warnings,
        namesakes=shown.namesakes,
        records=[run["file"] for run in shown.runs.values()],
    )
    return warnings


def standing(table: Table, row: Row) -> dict[str, Any]:
    """Return a row in few words: rank, name, clean and AutoAttack accuracy."""
    shown = {key: show(row.cells[key], table.column(key), table.decimals) for key in ("rank", "clean", "autoattack")}
    return {
        "label": row.label,
        "page": f"methods/{slug(row.identity.name)}.html",
        "marker": marker(row.identity.family),
        "signs": row.signs,
        "rank": shown["rank"].main,
        "why": row.cells["rank"].reason,
        "clean": shown["clean"].plain,
        "robust": shown["autoattack"].plain,
    }


def _context(table: Table, raised: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    labels = {row.key: row.label for row in table.rows}
    places = table.decimals
    flags = _flags(table, raised)
    told = {note.text for note in correction_notes.notes(table.history)}
    notes = [note.text for note in table.notes if note.text not in told]
    return {
        "name": table.protocol,
        "digest": table.digest,
        "marks": table.marks,
        "official": table.official,
        "dataset": display(table.dataset),
        "network": display(table.network),
        "threat": table.threat,
        "images": table.images,
        "seeds": sorted({seed for row in table.rows for seed in row.seeds}),
        "methods": len(labels),
        "heads": [_head(column) for column in table.columns],
        "groups": [
            (key, label)
            for key, label in GROUPS.items()
            if key == "evidence" or any(group(c) == key for c in table.columns)
        ],
        "marked": [mark for mark in MARKS if any(mark in row.marks for row in table.rows)],
        "flagged": sorted({name for row in table.rows for run in row.runs for name in raised.get(run, ())}),
        "divisions": sorted({row.division for row in table.rows}),
        "rows": [
            {
                "checkpoint": row.checkpoint,
                "variant": flags[row.key][0],
                "flags": " ".join(flags[row.key][1]),
                "date": row.date,
                "division": row.division,
                "text": f"{row.label} {row.identity.name} {row.identity.family} {row.identity.venue}".lower(),
                "family": row.identity.family,
                "marker": marker(row.identity.family),
                "page": f"../methods/{slug(row.identity.name)}.html",
                "signs": row.signs,
                "venue": row.identity.venue,
                "year": row.identity.year,
                "label": row.label,
                "cells": [_cell(row.cells[column.key], column, places) for column in table.columns],
                "runs": [
                    {"seed": seed, "page": f"../runs/{slug(run)}.html"}
                    for seed, run in zip(row.seeds, row.runs, strict=True)
                ],
            }
            for row in table.rows
        ],
        "notes": [text for text in notes if not text.startswith(ELSEWHERE)],
        "quoted": [text.removeprefix(f"{ELSEWHERE}: ") for text in notes if text.startswith(ELSEWHERE)],
        "comparisons": [
            {
                "a": labels[one.a],
                "b": labels[one.b],
                "difference": f"{100 * one.difference:+.{places}f}",
                "interval": f"{100 * one.interval.low:+.{places}f} to {100 * one.interval.high:+.{places}f}",
                "p": f"{one.p:.2g}",
                "adjusted": f"{one.adjusted:.2g}",
                "verdict": f"{labels[one.winner]} ahead" if one.winner else "tied",
            }
            for one in table.comparisons
        ],
    }


def _flags(table: Table, raised: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, list[str]]]:
    """Return for each variant its number, and its marks and raised flags on either checkpoint."""
    found: dict[str, tuple[int, dict[str, None]]] = {}
    for row in table.rows:
        _, names = found.setdefault(row.key, (len(found), {}))
        names.update(dict.fromkeys(row.marks))
        names.update(dict.fromkeys(name for run in row.runs for name in raised.get(run, ())))
    return {key: (number, list(names)) for key, (number, names) in found.items()}


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
    text = shown._replace(main="", interval=None, unit="" if column.unit else shown.unit).plain.strip()
    mean = None if column.kind == "text" else cell.mean
    values, spread = "", ""
    if mean is not None and column.kind in {"accuracy", "points", "amount"}:
        values = " ".join(show(Cell(values=(one,), expected=1), column, decimals).main for one in cell.values)
    if mean is not None and cell.sd is not None:
        spread = f"{cell.sd:.4g} {cell.sd:.4g}"
    elif mean is not None and cell.interval is not None:
        spread = f"{mean - cell.interval.low:.4g} {cell.interval.high - mean:.4g}"
    return {
        "key": column.key,
        "kind": column.kind,
        "mean": "" if mean is None else repr(mean).removesuffix(".0"),
        "each": values,
        "spread": spread,
        "reason": cell.reason if cell.state != "measured" else "",
        "state": cell.state not in {"measured", "not applicable"},
        "main": shown.main,
        "small": text,
        "low": shown.interval[0] if shown.interval else "",
        "high": shown.interval[1] if shown.interval else "",
        "bold": cell.bold,
    }


def _data(table: Table, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the scripts need beside the table itself; rows by their position, variants by their first row."""
    order = list(dict.fromkeys(row.key for row in table.rows))
    place = {key: index for index, key in enumerate(order)}
    return {
        "decimals": table.decimals,
        "images": table.images,
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
                "variant": place[row.key],
                "name": _id(row),
                "label": row.label,
                "sound": not {"masking", "invalid"} & set(row.marks),
                "robust": row.identity.robust,
                "runs": list(row.runs),
                "notes": list(row.notes),
                "paper": f"{row.identity.title}. {row.identity.venue} {row.identity.year}",
            }
            for row in table.rows
        ],
        "runs": {run: dict(about) for run, about in runs.items()},
        "comparisons": [
            [
                place[one.a],
                place[one.b],
                round(100 * one.difference, 4),
                round(100 * one.interval.low, 4),
                round(100 * one.interval.high, 4),
                float(f"{one.p:.2g}"),
                float(f"{one.adjusted:.2g}"),
                place[one.winner] if one.winner else -1,
                int(one.single),
            ]
            for one in table.comparisons
        ],
    }


def _id(row: Row) -> str:
    """Return a name of a row for addresses: letters, digits and hyphens of its label."""
    return re.sub(r"[^a-z0-9.]+", "-", row.label.lower()).strip("-") or slug(row.identity.name)
