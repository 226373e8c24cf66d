"""Robustness against what its training costs: passes per image, which no machine changes, or hours."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from advbench.leaderboards.table import Table
from advbench.reports.drawing.labels import CROWD, Label, place
from advbench.reports.drawing.points import describe, pareto, points, split
from advbench.reports.drawing.style import (
    COLUMN,
    FORMATS,
    PAGE,
    Look,
    ReportError,
    Width,
    figure,
    inches,
    legend_of_families,
    save,
    scaled,
)
from advbench.reports.tradeoff import FRONT, draw_point

COSTS = ("passes", "hours", "memory")


def draw(
    table: Table,
    stem: Path,
    *,
    against: str = "passes",
    robust: str = "autoattack",
    formats: Sequence[str] = FORMATS,
    look: Look = "paper",
    width: Width = "auto",
) -> list[Path]:
    """Draw robust accuracy of `best` against the cost of training and return the files.

    Args:
        table: the board.
        stem: path of the files without their endings.
        against: "passes" (forwards F per training image, teachers not included), "hours" or "memory".
        robust: column of the vertical axis.
        formats: some of pdf, png, svg.
        look: "paper" or "slides".
        width: columns it takes; by default one, most of a page for many methods.

    Raises:
        ReportError: if the cost is none of these, or its hours were spent on different kinds of devices.
    """
    if against not in COSTS:
        raise ReportError(f"no cost {against!r}; choose {', '.join(COSTS)}")
    column = table.column(against)
    if not column.unit:
        raise ReportError("hours of GPUs and of CPUs do not share an axis; draw --against passes")
    everyone = points(table, against, robust)
    found, aside = split(everyone)
    across = inches(width, COLUMN if len(found) <= CROWD else 0.8 * PAGE)
    with figure(across, 0.55 * across + 1, look) as made:
        axes = made.add_subplot()
        for point in found:
            draw_point(axes, point, faint=len(found) > CROWD)
        front = pareto(found, less_is_better_x=True)
        corners = [(point.x.value, point.y.value) for point in front]
        stairs = [*corners[:1], *(one for a, b in pairwise(corners) for one in ((b[0], a[1]), b))]
        if stairs:
            axes.plot(*zip(*stairs, strict=True), color=FRONT, linewidth=scaled(1.2), zorder=1)
        values = [point.x.value for point in found]
        room = 0.12 * (max(values) - min(values)) or 0.1 * max(values)
        axes.set_xlim(min(values) - room, max(values) + 2 * room)
        axes.margins(y=0.15)
        axes.set_xlabel(
            f"{column.label} ({column.unit})" if against != "passes" else "Training passes per image (forwards F)"
        )
        axes.set_ylabel(f"{table.column(robust).label} accuracy (%)")
        describe(axes, table, across, aside)
        legend_of_families(made, axes, [point.row.identity.family for point in found])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        place(axes, [Label(point.label, point.x.value, point.y.value) for point in found], lines=[stairs])
        return save(made, stem, formats)
