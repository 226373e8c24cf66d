"""What the figures take from a board: the rows of `best` with their means and intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from advbench.leaderboards.measures import ACCURACIES
from advbench.leaderboards.table import Row, Table
from advbench.reports.drawing.labels import CROWD
from advbench.reports.drawing.style import ReportError, caption

FENCE = 1.5
"""Interquartile ranges below the first quartile that a method may lie (Tukey's fence)."""


class Measured(NamedTuple):
    """A number with what to draw around it: mean ± sd over seeds, or one seed's Wilson interval."""

    value: float
    below: float
    above: float


class Point(NamedTuple):
    """One method at one checkpoint, by two columns of the board."""

    row: Row
    x: Measured
    y: Measured

    @property
    def label(self) -> str:
        """The row's name with its signs."""
        return f"{self.row.label} {self.row.signs}".strip()

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against the numbers."""
        return not {"masking", "invalid"} & set(self.row.marks)


def measured(row: Row, key: str) -> Measured | None:
    """Return a cell as a number with its spread; None where there is none."""
    cell = row.cells[key]
    if cell.mean is None:
        return None
    if cell.sd is not None:
        return Measured(cell.mean, cell.sd, cell.sd)
    if cell.interval is not None:
        return Measured(cell.mean, cell.mean - cell.interval.low, cell.interval.high - cell.mean)
    return Measured(cell.mean, 0.0, 0.0)


def points(table: Table, x: str, y: str, checkpoint: str = "best") -> list[Point]:
    """Return the rows of a checkpoint that have both columns.

    Raises:
        ReportError: if no row has.
    """
    table.column(x), table.column(y)
    found = []
    for row in table.rows:
        first, second = measured(row, x), measured(row, y)
        if row.checkpoint == checkpoint and first and second:
            found.append(Point(row, first, second))
    if not found:
        raise ReportError(f"no method of {table.protocol} has both {x} and {y} measured; evaluate first")
    return found


def pareto(some: Sequence[Point], *, less_is_better_x: bool = False) -> list[Point]:
    """Return the points that no other is better than in both coordinates, in order of x; unsound ones do not count."""
    sign = -1 if less_is_better_x else 1
    front: list[Point] = []
    for point in sorted((one for one in some if one.sound), key=lambda one: (-sign * one.x.value, -one.y.value)):
        if not front or point.y.value > front[-1].y.value:
            front.append(point)
    return sorted(front, key=lambda one: one.x.value)


def split(found: Sequence[Point], keys: Sequence[str] = ("y",)) -> tuple[list[Point], list[Point]]:
    """Part the methods that would squeeze all others into a corner from the others.

    These are the ones without robustness (less than half of the least robust other method), and on a crowded board
    whatever lies below Tukey's fence in one of the coordinates `keys`.
    """
    floor = min((point.y.value for point in found if point.row.identity.robust), default=0.0) / 2
    aside = [point for point in found if not point.row.identity.robust and point.y.value < floor]
    shown = [point for point in found if point not in aside]
    if len(shown) > CROWD:
        for key in keys:
            values = [getattr(point, key).value for point in shown]
            first, third = np.percentile(values, [25, 75])
            fence = first - FENCE * max(third - first, 1.0)
            aside += [point for point in shown if getattr(point, key).value < fence]
            shown = [point for point in shown if getattr(point, key).value >= fence]
    return shown, aside


def describe(axes: Axes, table: Table, width: float, aside: Sequence[Point] = ()) -> None:
    """Say above axes in a figure of `width` inches what they show, what the bars are, and what lies outside."""
    about = [f"{table.title}, n = {table.images}; {spread_note(table)}"]
    if aside:
        named = "; ".join(f"{point.label} ({point.x.value:.3g}, {point.y.value:.3g})" for point in aside)
        about.append(f"outside the axes: {named}")
    caption(axes, width, *about)


def name_of(column: str) -> str:
    """Return how a measured column is called in figures: "AutoAttack".

    Raises:
        ReportError: if no record has such a column.
    """
    if column not in ACCURACIES:
        raise ReportError(f"no column {column!r}; there are: {', '.join(ACCURACIES)}")
    return ACCURACIES[column][0]


def spread_note(table: Table) -> str:
    """Say in a few words what the bars around the points are."""
    counts = {len(row.seeds) for row in table.rows}
    if counts == {1}:
        return "bars: Wilson 95 %, draw of test images only"
    return "bars: ± sd over seeds" if 1 not in counts else "bars: ± sd over seeds; one seed: Wilson 95 %"
