"""The page over all boards: the rank set of each method on every board that has ranks, boards by data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.leaderboards.site.board_page import Board
from advbench.leaderboards.site.file_names import slug
from advbench.leaderboards.site.new_data_set import LEAST, Level, predict
from advbench.leaderboards.site.render import page
from advbench.leaderboards.table import show
from advbench.leaderboards.writers.escaping import display
from advbench.leaderboards.writers.html.column_guide import marker


def render(boards: Sequence[Board]) -> bytes:
    """Return the page; boards without ranks are named, with what they lack."""
    ranked = [one for one in boards if one.table.ranking and one.table.ranking.ranks_methods]
    ranked.sort(key=lambda one: (display(one.table.dataset).casefold(), one.table.protocol))
    rows: dict[str, dict[str, Any]] = {}
    levels: dict[str, list[Level]] = {}
    for place, one in enumerate(ranked):
        plain = (row for row in one.table.rows if row.checkpoint == "best" and not row.identity.changed)
        base = next((row.cells["autoattack"].mean for row in plain if row.identity.name == "pgd_at"), None)
        for row in one.table.rows:
            if ends := row.cells["rank"].interval:
                cells = rows.setdefault(row.label, _row(row.label, row.identity.name, row.identity.family))["cells"]
                mean = show(row.cells["autoattack"], one.table.column("autoattack"), one.table.decimals).main
                count = len(one.table.ranking.order) if one.table.ranking else 1
                low, high = (100 * end / count for end in (ends.low - 1, ends.high))
                robust = row.cells["autoattack"].mean
                lead = None if base is None or robust is None else robust - base
                levels.setdefault(row.label, []).append(Level(one.table.dataset, low, high, lead))
                cells[place] = {
                    "rank": row.rank,
                    "bold": row.cells["rank"].bold,
                    "mean": mean,
                    "from": f"{low:.1f}",
                    "width": f"{high - low:.1f}",
                    "middle": (low + high) / 2,
                }
    for label, row_of in rows.items():
        row_of["new"] = predict(levels[label])
    return page(
        "ranks.html",
        root="",
        here="ranks",
        boards=[
            {
                "name": one.table.protocol,
                "slug": one.slug,
                "dataset": display(one.table.dataset),
                "network": display(one.table.network),
                "ranked": len(one.table.ranking.order) if one.table.ranking else 0,
            }
            for one in ranked
        ],
        rows=sorted(rows.values(), key=lambda row: _middle(row["cells"])),
        least=LEAST,
        datasets=len({one.table.dataset for one in ranked}),
        predicted=any(row["new"] for row in rows.values()),
        without=[one for one in boards if one not in ranked and one.table.rows],
    )


def _row(label: str, method: str, family: str) -> dict[str, Any]:
    return {"label": label, "page": f"methods/{slug(method)}.html", "marker": marker(family), "cells": {}}


def _middle(cells: Mapping[int, Mapping[str, Any]]) -> float:
    """Return the mean over boards of the middle of a rank set, in percent of the board."""
    return sum(float(cell["middle"]) for cell in cells.values()) / len(cells)
