"""Rank stability: the order of the methods under each seed, and the ranks with ties over all of them."""

from collections.abc import Sequence
from pathlib import Path

from advbench.leaderboards.table import Row, Table
from advbench.reports.drawing.style import (
    FORMATS,
    Look,
    ReportError,
    Width,
    caption,
    figure,
    legend_of_families,
    listed,
    mark,
    save,
    scaled,
)


def draw(
    table: Table,
    stem: Path,
    *,
    robust: str = "autoattack",
    formats: Sequence[str] = FORMATS,
    look: Look = "paper",
    width: Width = "auto",
) -> list[Path]:
    """Draw the place of each method under every seed as a line, with its rank on the board; return the files.

    A place under one seed is the order of the accuracies on `best` and no more; the rank at the right counts only
    who is beaten significantly. Lines that cross between seeds are what the ranks tie.

    Args:
        table: the board.
        stem: path of the files without their endings.
        robust: column that orders the methods.
        formats: some of pdf, png, svg.
        look: "paper" or "slides".
        width: columns it takes; one by default.

    Raises:
        ReportError: unless two methods share two seeds.
    """
    rows, seeds = _complete(table, robust)
    places = {row.key: [0] * len(seeds) for row in rows}
    for number, seed in enumerate(seeds):
        for place, row in enumerate(sorted(rows, key=lambda row: (-_value(row, robust, seed), row.label)), 1):
            places[row.key][number] = place
    across, tall = listed(look, len(rows), head=1.2, width=width)
    with figure(across, tall, look) as made:
        axes = made.add_subplot()
        for row in rows:
            look_of = mark(row.identity.family)
            axes.plot(range(len(seeds)), places[row.key], color=look_of.colour, linewidth=scaled(1.2), alpha=0.85)
            axes.plot(
                range(len(seeds)),
                places[row.key],
                look_of.marker,
                color=look_of.colour,
                markersize=scaled(4.5),
                zorder=3,
            )
        axes.set_xticks(range(len(seeds)), [f"seed {seed}" for seed in seeds])
        axes.set_xlim(-0.15, len(seeds) - 0.85)
        by_last = sorted(rows, key=lambda row: places[row.key][-1])
        axes.set_yticks(range(1, len(rows) + 1))
        axes.set_ylim(len(rows) + 0.6, 0.4)
        axes.set_ylabel(f"Place by {table.column(robust).label}")
        axes.grid(visible=False, axis="y")
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        right.set_yticks(range(1, len(rows) + 1), [_named(row) for row in by_last])
        right.tick_params(axis="y", length=0)
        right.grid(visible=False)
        right.spines[:].set_visible(False)
        caption(axes, across, f"{table.title}; rank on the board in brackets, equal ranks are tied")
        legend_of_families(made, axes, [row.identity.family for row in rows])
        return save(made, stem, formats)


def _complete(table: Table, robust: str) -> tuple[list[Row], list[int]]:
    """Return the rows that have every shared seed, and those seeds."""
    rows = [row for row in table.rows if row.checkpoint == "best" and row.cells[robust].n == len(row.seeds)]
    seeds = sorted(set.intersection(*(set(row.seeds) for row in rows))) if rows else []
    if len(rows) < 2 or len(seeds) < 2:
        raise ReportError("rank stability needs two methods with two seeds in common")
    return rows, seeds


def _value(row: Row, robust: str, seed: int) -> float:
    return row.cells[robust].values[row.seeds.index(seed)]


def _named(row: Row) -> str:
    rank = row.cells["rank"]
    return f"{row.label} {row.signs} [{'–' if rank.mean is None else f'{rank.mean:.0f}'}]".replace("  ", " ")
