"""Labels beside points that cover neither each other nor the points, nor any line that leads to one.

Why not a library: textalloc 1.2 and adjustText 1.4 were tried on the boards of 27 methods. textalloc places greedily;
where it finds no free place it covers points and draws no line, so that labels stand beside the wrong point.
adjustText covers points in a crowd, and what it does depends on a time limit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from numpy.typing import NDArray

CROWD = 12
"""More labels than this are set smaller."""
DIRECTIONS = 24
REACHES = np.array([1.0, 1.6, 2.4, 3.4, 4.6, 6.0, 7.6, 9.5, 12.0, 15.0])
"""Distances tried, in units of the first one; beyond it a line leads back to the point."""
SWEEPS = 6
"""How often every label is placed anew among the others; it ends earlier when none moves."""
GAP, RADIUS, SAME = 7.0, 4.0, 1.0
"""Points (1/72 inch): from a point to its label; half the side of a marker; what lies nearer than this coincides."""
TOUCH, CROSS, OUTSIDE = 150.0, 90.0, 4.0
"""What it costs to overlap at all, to cross a line, and to leave the axes (per square pixel), in pixels of distance."""

Array = NDArray[np.float64]
"""Points in pixels are (N, 2); boxes (N, 4): left, lower, right, upper edges in pixels."""
Line = Sequence[tuple[float, float]]
"""Corners of a line in data coordinates."""


class Label(NamedTuple):
    """A text that belongs to a point in data coordinates."""

    text: str
    x: float
    y: float


class _Obstacles(NamedTuple):
    """What labels keep clear of, in pixels: points, pieces of lines, and the edges of the axes."""

    points: Array
    begins: Array
    ends: Array
    frame: Array


class _Places(NamedTuple):
    """Places that one label may take: its boxes, where its line begins (NaN: no line), and what each costs alone."""

    boxes: Array
    starts: Array
    costs: Array


def place(axes: Axes, labels: Sequence[Label], *, lines: Sequence[Line] = ()) -> list[Annotation]:
    """Annotate points, each label at the nearest free place; points that coincide share a label, "A, B".

    Crowded points choose first, then every label chooses again among the others until none moves. Where nothing is
    free the place that disturbs least is taken, so that every point is named whatever happens.

    Args:
        axes: with their final limits and size.
        labels: texts and their points.
        lines: which labels had better not cover.

    Returns:
        The annotations, one for each label that is not part of another.
    """
    canvas = axes.figure.canvas
    canvas.draw()
    if not isinstance(canvas, FigureCanvasAgg):
        raise TypeError("labels are placed on an Agg canvas")
    unit = axes.figure.dpi / 72
    size = "medium" if len(labels) <= CROWD else "small"
    labels = _join(axes, labels, SAME * unit)
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    corners = [axes.transData.transform(line) for line in lines if len(line) > 1]
    nothing = np.zeros((0, 2))
    obstacles = _Obstacles(
        points,
        np.concatenate([nothing, *(line[:-1] for line in corners)]),
        np.concatenate([nothing, *(line[1:] for line in corners)]),
        np.ravel(axes.get_window_extent().get_points()),
    )
    places = []
    for label, point in zip(labels, points, strict=True):
        probe = axes.text(0, 0, label.text, fontsize=size)
        box = probe.get_window_extent(canvas.get_renderer())
        probe.remove()
        places.append(_places(point, np.array([box.width, box.height]), obstacles, unit))
    made = []
    for label, point, options, chosen in zip(labels, points, places, _choose(points, places), strict=True):
        box, start = options.boxes[chosen], options.starts[chosen]
        if np.isfinite(start).all():
            line = {"arrowstyle": "-", "color": "#9a9a9a", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
            ends = {"xy": (label.x, label.y), "xytext": (start - point) / unit}
            axes.annotate("", **ends, textcoords="offset points", arrowprops=line, zorder=3)
        made.append(
            axes.annotate(
                label.text,
                xy=(label.x, label.y),
                xytext=((box[:2] + box[2:]) / 2 - point) / unit,
                textcoords="offset points",
                ha="center",
                va="center",
                color="black",
                fontsize=size,
                zorder=5,
                bbox={"boxstyle": "square,pad=0", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            )
        )
    return made


def _join(axes: Axes, labels: Sequence[Label], near: float) -> list[Label]:
    """Join the labels of points that lie less than `near` pixels from each other."""
    joined: list[Label] = []
    for label in labels:
        for number, other in enumerate(joined):
            first, second = axes.transData.transform([(label.x, label.y), (other.x, other.y)])
            if np.hypot(*(first - second)) < near:
                joined[number] = other._replace(text=f"{other.text}, {label.text}")
                break
        else:
            joined.append(label)
    return joined


def _places(point: Array, size: Array, obstacles: _Obstacles, unit: float) -> _Places:
    """List the places around a point, nearest first, and what each costs without any other label.

    In every distance the direction above to the right comes first: beside its point a label would lie on the point's
    horizontal bar.
    """
    steps = np.arange(DIRECTIONS)
    angles = 2 * np.pi / DIRECTIONS * (DIRECTIONS // 8 + (steps + 1) // 2 * np.where(steps % 2, 1, -1))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    shifts = GAP * unit * REACHES[:, None, None] * directions + size / 2 * np.clip(1.5 * directions, -1, 1)
    centres, half = point + shifts.reshape(-1, 2), size / 2 + 1
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    starts = np.clip(point, boxes[:, :2], boxes[:, 2:])
    outside = 4 * half.prod() - _overlaps(boxes, obstacles.frame[None])[:, 0]
    costs = np.hypot(*(starts - point).T) + 0.05 * np.tile(steps, len(REACHES)) + OUTSIDE * outside
    starts[:DIRECTIONS] = np.nan
    marks = np.concatenate([obstacles.points - RADIUS * unit, obstacles.points + RADIUS * unit], axis=1)
    others = np.abs(obstacles.points - point).max(axis=1) >= RADIUS * unit
    mistaken = (_distances(boxes, obstacles.points[others]) < _distances(boxes, point[None])).any(axis=1)
    crossed = (
        _crossings(starts, point, marks[others]).sum(axis=1)
        + _crossings(obstacles.begins, obstacles.ends, boxes).sum(axis=0) / 2
        + (mistaken & np.isnan(starts[:, 0]))  # nearer to another point: a reader would take it for that one's label
    )
    return _Places(boxes, starts, costs + _disturbance(_overlaps(boxes, marks)) + CROSS * crossed)


def _choose(points: Array, places: Sequence[_Places]) -> list[int]:
    """Return for each label the number of its place."""
    apart = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    order = np.argsort(-(1 / (1 + apart)).sum(axis=1), kind="stable")
    taken: dict[int, int] = {}
    for sweep in range(1 + SWEEPS):
        before = dict(taken)
        for index in map(int, order):
            own, costs = places[index], places[index].costs.copy()
            rest = [other for other in taken if other != index]
            if rest:
                boxes = np.array([places[other].boxes[taken[other]] for other in rest])
                starts = np.array([places[other].starts[taken[other]] for other in rest])
                costs += _disturbance(_overlaps(own.boxes, boxes))
                costs += CROSS * _crossings(own.starts, points[index], boxes).sum(axis=1)
                costs += CROSS * _crossings(starts, points[rest], own.boxes).sum(axis=0)
                costs += CROSS * _meetings(own.starts, points[index], starts, points[rest]).sum(axis=1)
            taken[index] = int(costs.argmin())
        if sweep and taken == before:
            break
    return [taken[index] for index in range(len(places))]


def _overlaps(boxes: Array, others: Array) -> Array:
    """Return the areas that boxes share, (boxes, others)."""
    a, b = boxes[:, None], others[None]
    shared: Array = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    return shared


def _disturbance(areas: Array) -> Array:
    """Return what overlaps cost each row: something for touching at all, and more with the area."""
    cost: Array = (areas + TOUCH * (areas > 0)).sum(axis=1)
    return cost


def _distances(boxes: Array, points: Array) -> Array:
    """Return how far points are from boxes, (boxes, points)."""
    gaps = np.clip(np.maximum(boxes[:, None, :2] - points, points - boxes[:, None, 2:]), 0, None)
    distances: Array = np.hypot(gaps[..., 0], gaps[..., 1])
    return distances


def _crossings(starts: Array, ends: Array, boxes: Array) -> NDArray[np.bool_]:
    """Whether lines cross boxes, (lines, boxes), by Liang and Barsky (1984); lines that begin with NaN cross none."""
    steps = ends - starts
    steps[steps == 0] = 1e-9
    first = (boxes[:, :2] - starts[:, None]) / steps[:, None]
    second = (boxes[:, 2:] - starts[:, None]) / steps[:, None]
    enter, leave = np.minimum(first, second).max(axis=-1), np.maximum(first, second).min(axis=-1)
    crossed: NDArray[np.bool_] = np.maximum(enter, 0) + 1e-9 < np.minimum(leave, 1)
    return crossed


def _meetings(starts: Array, end: Array, others: Array, other_ends: Array) -> NDArray[np.bool_]:
    """Whether lines to one end cross other lines, (lines, others); lines that begin with NaN cross none."""

    def side(p: Array, q: Array, r: Array) -> Array:
        """Return on which side of the line from p to q a point r lies, by sign."""
        a, b = q - p, r - p
        area: Array = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        return area

    a, c, d = starts[:, None], others[None], other_ends[None]
    met: NDArray[np.bool_] = (side(a, end, c) * side(a, end, d) < 0) & (side(c, d, a) * side(c, d, end) < 0)
    return met
