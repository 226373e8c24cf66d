"""Robust accuracy against the cost of training: passes per image, which no machine changes, hours or memory."""

from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from advbench.leaderboards.table import Table
from advbench.reports.drawing.labels import CROWD
from advbench.reports.drawing.points import pareto, points, scatter, split
from advbench.reports.drawing.style import COLUMN, PAGE, PAPER, FigureLayout, ReportError, figure

COSTS = ("passes", "hours", "memory")


def draw(table: Table, *, against: str = "passes", robust: str = "autoattack", layout: FigureLayout = PAPER) -> Figure:
    """Draw the column `robust` of the `best` checkpoints against the cost of training.

    Args:
        table: the board.
        against: "passes" (forwards F per training image, teachers not included), "hours" or "memory".
        robust: column of the vertical axis.
        layout: the page it is for.

    Raises:
        ReportError: if the cost is none of these, or its hours were spent on different kinds of devices.
    """
    if against not in COSTS:
        raise ReportError(f"no cost {against!r}; choose {', '.join(COSTS)}")
    column = table.column(against)
    if not column.unit:
        raise ReportError("hours of GPUs and of CPUs do not share an axis; draw --against passes")
    shown, aside = split(points(table, against, robust))
    across = layout.inches(COLUMN if len(shown) <= CROWD else 0.8 * PAGE)
    with figure(across, 0.55 * across + 1, layout) as made:
        axes = made.add_subplot()
        corners = [(point.x.value, point.y.value) for point in pareto(shown, less_is_better_x=True)]
        front = [*corners[:1], *(corner for a, b in pairwise(corners) for corner in ((b[0], a[1]), b))]
        values = [point.x.value for point in shown]
        room = 0.12 * (max(values) - min(values)) or 0.1 * max(values)
        axes.set_xlim(min(values) - room, max(values) + 2 * room)
        low = min(point.y.value - point.y.below for point in shown)
        high = max(point.y.value + point.y.above for point in shown)
        axes.set_ylim(low - 0.15 * (high - low), high + 0.15 * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        label = f"{column.label} ({column.unit})"
        axes.set_xlabel("Training passes per image (forwards F)" if against == "passes" else label)
        axes.set_ylabel(f"{table.column(robust).label} accuracy (%)")
        scatter(made, axes, table, shown, aside=aside, front=front)
        return made
