"""Clean accuracy against AutoAttack accuracy, with intervals and the Pareto front."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes

from advbench.leaderboards.table import Table
from advbench.reports.labels import CROWD, Label, place
from advbench.reports.points import Point, describe, pareto, points
from advbench.reports.style import COLUMN, FORMATS, GREY, LIGHT, PAGE, Look, figure, legend_of_families, mark, save

WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


def draw(
    table: Table, stem: Path, *, robust: str = "autoattack", formats: Sequence[str] = FORMATS, look: Look = "paper"
) -> list[Path]:
    """Draw the trade-off of the `best` checkpoints and return the files.

    A method without robustness would squeeze all others into a corner: it is named at the lower edge instead. Rows
    with signs of masking are hollow and no part of the front.

    Args:
        table: the board.
        stem: path of the files without their endings.
        robust: column of the vertical axis.
        formats: some of pdf, png, svg.
        look: "paper" (one column wide, most of a page for many methods) or "slides".

    Raises:
        ReportError: if no row has both columns.
    """
    found = points(table, "clean", robust)
    shown, below = split(found)
    width = COLUMN if len(shown) <= CROWD else 0.8 * PAGE
    with figure(width, 0.6 * width + 1, look) as made:
        axes = made.add_subplot()
        axes.set_xlabel("Clean accuracy (%)")
        axes.set_ylabel(f"{table.column(robust).label} accuracy (%)")
        _limit(axes, shown)
        draw_front(axes, pareto(shown))
        for point in shown:
            draw_point(axes, point)
        legend_of_families(made, axes, [point.row.identity.family for point in found])
        describe(axes, table, width)
        labels = [Label(point.label, point.x.value, point.y.value) for point in shown]
        if below:
            name_below(axes, below)
        place(axes, labels, obstacles=front_points(pareto(shown)))
        return save(made, stem, formats)


def draw_point(axes: Axes, point: Point) -> None:
    """Draw one method: bars behind, its family's marker on top, hollow if its numbers are in doubt."""
    look = mark(point.row.identity.family)
    axes.errorbar(
        point.x.value,
        point.y.value,
        xerr=[[point.x.below], [point.x.above]],
        yerr=[[point.y.below], [point.y.above]],
        fmt="none",
        ecolor=look.colour,
        elinewidth=0.6,
        alpha=0.45,
        zorder=2,
    )
    hollow = look.marker != "x" and not point.sound
    axes.plot(
        point.x.value,
        point.y.value,
        look.marker,
        color=look.colour,
        markerfacecolor="white" if hollow else look.colour,
        zorder=4,
    )


def draw_front(axes: Axes, front: Sequence[Point]) -> None:
    """Draw the staircase of what is reached by nobody else."""
    if not front:
        return
    (low, high), (floor, top) = axes.get_xlim(), axes.get_ylim()
    xs = [low, *(point.x.value for point in front), front[-1].x.value]
    ys = [front[0].y.value, *(point.y.value for point in front), floor]
    axes.step(xs, ys, where="pre", color=LIGHT, linewidth=1.2, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(floor, top)


def front_points(front: Sequence[Point]) -> list[tuple[float, float]]:
    """Return the outer corners of the staircase, which labels keep clear of."""
    return [(one.x.value, after.y.value) for one, after in pairwise(front)]


def split(found: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Part the methods without robustness (less than half of the least robust other method) from the others."""
    robust = [point.y.value for point in found if point.row.identity.robust]
    floor = min(robust, default=0.0) / 2
    below = [point for point in found if not point.row.identity.robust and point.y.value < floor]
    return [point for point in found if point not in below], below


def _limit(axes: Axes, shown: Sequence[Point]) -> None:
    """Leave room for bars and labels around the points."""
    for which, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        low = min(getattr(point, which).value - getattr(point, which).below for point in shown)
        high = max(getattr(point, which).value + getattr(point, which).above for point in shown)
        room = max(1.0, 0.18 * (high - low))
        limit(max(-1.0, low - room), min(101.0, high + room))


def name_below(axes: Axes, below: Sequence[Point]) -> None:
    """Name at the lower edge what lies below the axes."""
    text = "; ".join(f"{point.label} ({point.x.value:.3g}, {point.y.value:.3g})" for point in below)
    axes.text(0.01, 0.015, f"↓ below: {text}", transform=axes.transAxes, fontsize="x-small", color=GREY, bbox=WHITE)
