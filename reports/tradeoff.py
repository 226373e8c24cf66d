"""Trade-off: clean accuracy against robust accuracy of every method, with intervals and the Pareto front."""

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.leaderboards.table import Table
from advbench.reports.drawing.labels import CROWD
from advbench.reports.drawing.points import Point, pareto, points, scatter, split
from advbench.reports.drawing.style import COLUMN, PAGE, PAPER, FigureLayout, figure


def draw(table: Table, *, robust: str = "autoattack", layout: FigureLayout = PAPER) -> Figure:
    """Draw the trade-off of the `best` checkpoints under the column `robust`.

    A method far below the others would squeeze them into a corner: it is named with its numbers above the axes
    instead; see `split`. Rows with signs of masking are hollow and no part of the front.

    Raises:
        ReportError: if no row has both columns.
    """
    shown, aside = split(points(table, "clean", robust), ("x", "y"))
    crowded = len(shown) > CROWD
    across = layout.inches(0.8 * PAGE if crowded else COLUMN)
    with figure(across, 0.6 * across + 1, layout) as made:
        axes = made.add_subplot()
        axes.set_xlabel("Clean accuracy (%)")
        axes.set_ylabel(f"{table.column(robust).label} accuracy (%)")
        axes.grid(visible=not crowded)  # faint bars would pass for lines of the grid
        _limit(axes, shown, bars=0.0 if crowded else 1.0)
        scatter(made, axes, table, shown, aside=aside, front=_staircase(axes, pareto(shown)))
        return made


def _staircase(axes: Axes, front: Sequence[Point]) -> list[tuple[float, float]]:
    """Return the corners of the front, from edge to edge of the axes."""
    if len(front) < 2:
        return []
    corners = [(axes.get_xlim()[0], front[0].y.value), (front[0].x.value, front[0].y.value)]
    for point, after in pairwise(front):
        corners += [(point.x.value, after.y.value), (after.x.value, after.y.value)]
    return [*corners, (front[-1].x.value, axes.get_ylim()[0])]


def _limit(axes: Axes, shown: Sequence[Point], *, bars: float) -> None:
    """Leave room around the points for labels and this part of the bars; among many, long bars leave the axes."""
    for values, limit in (([point.x for point in shown], axes.set_xlim), ([point.y for point in shown], axes.set_ylim)):
        low = min(point.value - bars * point.below for point in values)
        high = max(point.value + bars * point.above for point in values)
        room = max(1.0, 0.18 * (high - low))
        limit(max(-1.0, low - room), min(102.0, high + room))
