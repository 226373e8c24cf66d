"""Clean accuracy against AutoAttack accuracy, with intervals and the Pareto front."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes

from advbench.leaderboards.table import Table
from advbench.reports.drawing.labels import CROWD, Label, place
from advbench.reports.drawing.points import Point, describe, pareto, points, split
from advbench.reports.drawing.style import (
    COLUMN,
    FORMATS,
    PAGE,
    Look,
    Width,
    figure,
    inches,
    legend_of_families,
    mark,
    save,
    scaled,
)

THIN = ("x", "P", "*")
"""Markers that a white edge would eat up."""
FRONT, FAINT = "#b0b0b0", "#dcdcdc"


def draw(
    table: Table,
    stem: Path,
    *,
    robust: str = "autoattack",
    formats: Sequence[str] = FORMATS,
    look: Look = "paper",
    width: Width = "auto",
) -> list[Path]:
    """Draw the trade-off of the `best` checkpoints and return the files.

    A method far below the others would squeeze them into a corner: it is named with its numbers above the axes
    instead; see `split`. Rows with signs of masking are hollow and no part of the front.

    Args:
        table: the board.
        stem: path of the files without their endings.
        robust: column of the vertical axis.
        formats: some of pdf, png, svg.
        look: "paper" or "slides".
        width: columns it takes; by default one, most of a page for many methods.

    Raises:
        ReportError: if no row has both columns.
    """
    found = points(table, "clean", robust)
    shown, aside = split(found, ("x", "y"))
    across = inches(width, COLUMN if len(shown) <= CROWD else 0.8 * PAGE)
    with figure(across, 0.6 * across + 1, look) as made:
        axes = made.add_subplot()
        axes.set_xlabel("Clean accuracy (%)")
        axes.set_ylabel(f"{table.column(robust).label} accuracy (%)")
        _limit(axes, shown)
        axes.grid(visible=len(shown) <= CROWD)  # faint bars would pass for lines of the grid
        draw_front(axes, pareto(shown))
        for point in shown:
            draw_point(axes, point, faint=len(shown) > CROWD)
        legend_of_families(made, axes, [point.row.identity.family for point in shown])
        describe(axes, table, across, aside)
        labels = [Label(point.label, point.x.value, point.y.value) for point in shown]
        place(axes, labels, lines=[front_line(axes, pareto(shown))])
        return save(made, stem, formats)


def draw_point(axes: Axes, point: Point, *, faint: bool = False) -> None:
    """Draw one method: bars behind, its family's marker on top, hollow if its numbers are in doubt.

    Args:
        axes: to draw on.
        point: the method.
        faint: whether the bars stand back behind the points of many others.
    """
    look = mark(point.row.identity.family)
    axes.errorbar(
        point.x.value,
        point.y.value,
        xerr=[[point.x.below], [point.x.above]],
        yerr=[[point.y.below], [point.y.above]],
        fmt="none",
        ecolor=FAINT if faint else look.colour,
        elinewidth=scaled(0.4 if faint else 0.6),
        alpha=None if faint else 0.45,
        zorder=1 if faint else 2,
    )
    hollow = look.marker != "x" and not point.sound
    edged = hollow or look.marker in THIN
    axes.plot(
        point.x.value,
        point.y.value,
        look.marker,
        color=look.colour,
        markerfacecolor="white" if hollow else look.colour,
        markeredgecolor=look.colour if edged else "white",
        markeredgewidth=scaled(1.0 if edged else 0.4),
        zorder=4,
    )


def draw_front(axes: Axes, front: Sequence[Point]) -> None:
    """Draw the staircase of what is reached by nobody else."""
    limits = axes.get_xlim(), axes.get_ylim()
    if len(front) > 1:
        axes.plot(*zip(*front_line(axes, front), strict=True), color=FRONT, linewidth=scaled(1.2), zorder=1)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def front_line(axes: Axes, front: Sequence[Point]) -> list[tuple[float, float]]:
    """Return the corners of the staircase, from edge to edge of the axes."""
    if len(front) < 2:
        return []
    corners = [(axes.get_xlim()[0], front[0].y.value), (front[0].x.value, front[0].y.value)]
    for one, after in pairwise(front):
        corners += [(one.x.value, after.y.value), (after.x.value, after.y.value)]
    return [*corners, (front[-1].x.value, axes.get_ylim()[0])]


def _limit(axes: Axes, shown: Sequence[Point]) -> None:
    """Leave room around the points for labels and bars; among many, long bars run out of the axes."""
    part = 1.0 if len(shown) <= CROWD else 0.0
    for which, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        low = min(getattr(point, which).value - part * getattr(point, which).below for point in shown)
        high = max(getattr(point, which).value + part * getattr(point, which).above for point in shown)
        room = max(1.0, 0.18 * (high - low))
        limit(max(-1.0, low - room), min(102.0, high + room))
