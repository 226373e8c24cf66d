"""Rows of a board as points: means with their spread, names with their flags, and the Pareto front."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.leaderboards.measures import ACCURACIES
from advbench.leaderboards.table import MARKS, Row, Table
from advbench.reports.drawing.colours import FAMILY_COLOURS, OTHER
from advbench.reports.drawing.labels import CROWD, Label, place
from advbench.reports.drawing.style import ReportError, caption, legend_of_families, scaled

FENCE = 1.5
"""Interquartile ranges below the first quartile that a method may lie (Tukey's fence)."""
FRONT, FAINT = "#b0b0b0", "#dcdcdc"
THIN = ("x", "P", "*")
"""Markers that a white edge would eat up."""
_MEANINGS = {"masking": "AutoAttack in doubt", "collapsed": "collapsed", "invalid": "evaluation not valid"}


class Spread(NamedTuple):
    """A number with what to draw around it: mean ± sd over seeds, or one seed's Wilson interval."""

    value: float
    below: float
    above: float


class Point(NamedTuple):
    """One method at one checkpoint, by two columns of the board."""

    row: Row
    x: Spread
    y: Spread

    @property
    def label(self) -> str:
        """The row's name with its signs."""
        return marked_name(self.row)


def marked_name(row: Row) -> str:
    """Return the label of a row with the signs of its flags: "GAIRAT †"."""
    return f"{row.label} {row.signs}".strip()


def doubtful(row: Row) -> bool:
    """Whether the row's AutoAttack is in doubt or its evaluation is not valid; it is drawn hollow."""
    return bool({"masking", "invalid"} & set(row.marks))


def footnote(names: Iterable[str]) -> str:
    """Explain the signs of flags that occur in `marked_name`s; "" where there are none."""
    present = {sign for name in names for sign in name.split(" ")[-1]}
    return "; ".join(
        f"{sign}: {_MEANINGS[mark]}" for mark, sign in MARKS.items() if sign in present and mark in _MEANINGS
    )


def measured(row: Row, key: str) -> Spread | None:
    """Return a cell as a number with its spread; None where there is none."""
    cell = row.cells[key]
    if cell.mean is None:
        return None
    if cell.sd is not None:
        return Spread(cell.mean, cell.sd, cell.sd)
    if cell.interval is not None:
        return Spread(cell.mean, cell.mean - cell.interval.low, cell.interval.high - cell.mean)
    return Spread(cell.mean, 0.0, 0.0)


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
    """Return the points that no other beats in both coordinates, in order of x; doubtful rows do not count."""
    sign = -1 if less_is_better_x else 1
    front: list[Point] = []
    sound = (point for point in some if not doubtful(point.row))
    for point in sorted(sound, key=lambda point: (-sign * point.x.value, -point.y.value)):
        if not front or point.y.value > front[-1].y.value:
            front.append(point)
    return sorted(front, key=lambda point: point.x.value)


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


def scatter(
    made: Figure,
    axes: Axes,
    table: Table,
    shown: Sequence[Point],
    *,
    aside: Sequence[Point],
    front: Sequence[tuple[float, float]],
) -> None:
    """Draw points with their names, the corners of the Pareto front, and what explains them, on axes with limits."""
    limits = axes.get_xlim(), axes.get_ylim()
    for point in shown:
        draw_point(axes, point, faint=len(shown) > CROWD)
    if front:
        axes.plot(*zip(*front, strict=True), color=FRONT, linewidth=scaled(1.2), zorder=1)
    axes.set(xlim=limits[0], ylim=limits[1])
    legend_of_families(made, axes, [point.row.identity.family for point in shown])
    describe(axes, table, shown, aside)
    place(axes, [Label(point.label, point.x.value, point.y.value) for point in shown], lines=[front])


def draw_point(axes: Axes, point: Point, *, faint: bool = False) -> None:
    """Draw one method: bars behind, its family's marker on top, hollow if its numbers are in doubt.

    Args:
        axes: to draw on.
        point: the method.
        faint: whether the bars stand back behind the points of many others.
    """
    colour, marker = FAMILY_COLOURS.get(point.row.identity.family, OTHER)
    axes.errorbar(
        point.x.value,
        point.y.value,
        xerr=[[point.x.below], [point.x.above]],
        yerr=[[point.y.below], [point.y.above]],
        fmt="none",
        ecolor=FAINT if faint else colour,
        elinewidth=scaled(0.4 if faint else 0.6),
        alpha=None if faint else 0.45,
        zorder=1 if faint else 2,
    )
    hollow = marker != "x" and doubtful(point.row)
    edged = hollow or marker in THIN
    axes.plot(
        point.x.value,
        point.y.value,
        marker,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markeredgecolor=colour if edged else "white",
        markeredgewidth=scaled(1.0 if edged else 0.4),
        zorder=4,
    )


def describe(axes: Axes, table: Table, shown: Sequence[Point], aside: Sequence[Point] = ()) -> None:
    """Say above axes what they show, what the bars and signs mean, and which points lie outside."""
    named = "; ".join(f"{point.label} ({point.x.value:.3g}, {point.y.value:.3g})" for point in aside)
    signs = footnote(point.label for point in (*shown, *aside))
    hollow = "; hollow: in doubt" if any(doubtful(point.row) for point in shown) else ""
    caption(
        axes,
        f"{table.title}, n = {table.images}; {spread_note(table)}",
        signs + hollow,
        f"outside the axes: {named}" if aside else "",
    )


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
