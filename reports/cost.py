"""Robustness against what its training costs: passes per image, which no machine changes, or hours."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from advbench.leaderboards.table import Table
from advbench.reports.labels import CROWD, Label, place
from advbench.reports.points import describe, pareto, points
from advbench.reports.style import COLUMN, FORMATS, PAGE, Look, ReportError, figure, legend_of_families, save
from advbench.reports.tradeoff import draw_point, name_below, split

COSTS = ("passes", "hours", "memory")


def draw(
    table: Table,
    stem: Path,
    *,
    against: str = "passes",
    robust: str = "autoattack",
    formats: Sequence[str] = FORMATS,
    look: Look = "paper",
) -> list[Path]:
    """Draw robust accuracy of `best` against the cost of training and return the files.

    Args:
        table: the board.
        stem: path of the files without their endings.
        against: "passes" (forwards F per training image, teachers not included), "hours" or "memory".
        robust: column of the vertical axis.
        formats: some of pdf, png, svg.
        look: "paper" or "slides".

    Raises:
        ReportError: if the cost is none of these, or its hours were spent on different kinds of devices.
    """
    if against not in COSTS:
        raise ReportError(f"no cost {against!r}; choose {', '.join(COSTS)}")
    column = table.column(against)
    if not column.unit:
        raise ReportError("hours of GPUs and of CPUs do not share an axis; draw --against passes")
    everyone = points(table, against, robust)
    found, below = split(everyone)
    width = COLUMN if len(found) <= CROWD else 0.8 * PAGE
    with figure(width, 0.5 * width + 1, look) as made:
        axes = made.add_subplot()
        for point in found:
            draw_point(axes, point)
        front = pareto(found, less_is_better_x=True)
        axes.step(
            [point.x.value for point in front],
            [point.y.value for point in front],
            where="post",
            color="#d9d9d9",
            linewidth=1.2,
            zorder=1,
        )
        values = [point.x.value for point in found]
        room = 0.12 * (max(values) - min(values)) or 0.1 * max(values)
        axes.set_xlim(min(values) - room, max(values) + 2 * room)
        axes.margins(y=0.15)
        axes.set_xlabel(
            f"{column.label} ({column.unit})" if against != "passes" else "Training passes per image (forwards F)"
        )
        axes.set_ylabel(f"{table.column(robust).label} accuracy (%)")
        describe(axes, table, width)
        legend_of_families(made, axes, [point.row.identity.family for point in everyone])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if below:
            name_below(axes, below)
        place(axes, [Label(point.label, point.x.value, point.y.value) for point in found])
        return save(made, stem, formats)
