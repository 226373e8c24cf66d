"""Put labels beside points so that they cover neither each other nor the points, nor any line that leads to one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

DIRECTIONS = 24
CROWD = 12
"""More labels than this are set smaller."""
REACHES = (1.0, 1.6, 2.4, 3.4, 4.6, 6.0, 7.6, 9.5, 12.0, 15.0)
"""Distances tried, in units of the first one; beyond it a line leads back to the point."""
SWEEPS = 6
"""How often every label is placed anew among the others; it ends earlier when none moves."""
GAP, RADIUS, SAME = 7.0, 4.0, 1.0
"""Points (1/72 inch): from a point to its label; half the side of a marker; what lies nearer than this coincides."""
TOUCH, CROSS, OUTSIDE = 150.0, 90.0, 4.0
"""What it costs to overlap at all, to cross a line, and to leave the axes (per square pixel), in pixels of distance."""

Boxes = NDArray[np.float64]
"""(N, 4): left, lower, right, upper edges in pixels."""


class Label(NamedTuple):
    """A text that belongs to a point in data coordinates."""

    text: str
    x: float
    y: float
    colour: str = "black"


Line = Sequence[tuple[float, float]]
"""Corners of a line in data coordinates."""


class _Scene(NamedTuple):
    """What is in the way, in pixels.

    Attributes:
        marks: boxes of the points and obstacles.
        begins, ends: (N, 2), pieces of the lines.
        frame: of the axes.
        unit: pixels per point (1/72 inch).
    """

    marks: Boxes
    begins: NDArray[np.float64]
    ends: NDArray[np.float64]
    frame: Bbox
    unit: float


class _Places(NamedTuple):
    """Places that one label may take: its boxes, where its line begins (NaN: no line), and what each costs alone."""

    boxes: Boxes
    starts: NDArray[np.float64]
    costs: NDArray[np.float64]


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
    figure = axes.figure
    size = "medium" if len(labels) <= CROWD else "small"
    labels = _together(axes, labels)
    figure.canvas.draw()
    if not isinstance(figure.canvas, FigureCanvasAgg):
        raise TypeError("labels are placed on an Agg canvas")
    renderer = figure.canvas.get_renderer()
    unit = figure.dpi / 72
    points = np.array([axes.transData.transform((label.x, label.y)) for label in labels])
    marks = np.array([[x - RADIUS * unit, y - RADIUS * unit, x + RADIUS * unit, y + RADIUS * unit] for x, y in points])
    corners = [axes.transData.transform(line) for line in lines if len(line) > 1]
    scene = _Scene(
        marks,
        np.concatenate([np.zeros((0, 2)), *(line[:-1] for line in corners)]),
        np.concatenate([np.zeros((0, 2)), *(line[1:] for line in corners)]),
        axes.get_window_extent(renderer),
        unit,
    )
    there = []
    for label, point in zip(labels, points, strict=True):
        probe = axes.text(0, 0, label.text, fontsize=size)
        box = probe.get_window_extent(renderer)
        probe.remove()
        there.append(_places(point, (box.width, box.height), scene))
    made = []
    for label, point, places, taken in zip(labels, points, there, _choose(points, there), strict=True):
        left, low, right, top = places.boxes[taken]
        if np.isfinite(start := places.starts[taken]).all():
            line = {"arrowstyle": "-", "color": "#9a9a9a", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
            axes.annotate(
                "",
                xy=(label.x, label.y),
                xytext=tuple((start - point) / unit),
                textcoords="offset points",
                arrowprops=line,
                zorder=3,
            )
        made.append(
            axes.annotate(
                label.text,
                xy=(label.x, label.y),
                xytext=(((left + right) / 2 - point[0]) / unit, ((low + top) / 2 - point[1]) / unit),
                textcoords="offset points",
                ha="center",
                va="center",
                color=label.colour,
                fontsize=size,
                zorder=5,
                bbox={"boxstyle": "square,pad=0", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            )
        )
    return made


def _together(axes: Axes, labels: Sequence[Label]) -> list[Label]:
    """Join the labels of points that lie on each other."""
    unit = axes.figure.dpi / 72
    joined: dict[int, Label] = {}
    points = [axes.transData.transform((label.x, label.y)) for label in labels]
    for number, (label, point) in enumerate(zip(labels, points, strict=True)):
        twin = next((one for one in joined if math.hypot(*(points[one] - point)) < SAME * unit), number)
        text = f"{joined[twin].text}, {label.text}" if twin in joined else label.text
        joined[twin] = joined.get(twin, label)._replace(text=text)
    return list(joined.values())


def _places(point: NDArray[np.float64], size: tuple[float, float], scene: _Scene) -> _Places:
    """List the places around a point, nearest first, and what each costs without any other label."""
    (x, y), (width, height) = point, size
    marks, frame, unit = scene.marks, scene.frame, scene.unit
    boxes, starts, costs = [], [], []
    for reach in REACHES:
        for step in range(DIRECTIONS):
            # Above to the right first: beside its point a label would lie on the point's horizontal bar.
            turn = DIRECTIONS // 8 + (step + 1) // 2 * (1 if step % 2 else -1)
            angle = 2 * math.pi * turn / DIRECTIONS
            centre_x = x + GAP * unit * reach * math.cos(angle) + width / 2 * _side(math.cos(angle))
            centre_y = y + GAP * unit * reach * math.sin(angle) + height / 2 * _side(math.sin(angle))
            half_x, half_y = width / 2 + 1, height / 2 + 1
            box = np.array([centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y])
            start = np.array([np.clip(x, box[0], box[2]), np.clip(y, box[1], box[3])])
            inside = max(0.0, min(box[2], frame.x1) - max(box[0], frame.x0)) * max(
                0.0, min(box[3], frame.y1) - max(box[1], frame.y0)
            )
            far = math.hypot(*(start - point))
            cost = far + 0.05 * step + OUTSIDE * (4 * half_x * half_y - inside)
            boxes.append(box)
            starts.append(start if reach > REACHES[0] else np.full(2, np.nan))
            costs.append(cost)
    found = _Places(np.array(boxes), np.array(starts), np.array(costs))
    areas = _overlaps(found.boxes, marks)
    own = (marks[:, 0] < x) & (x < marks[:, 2]) & (marks[:, 1] < y) & (y < marks[:, 3])
    crossed = _crossings(found.starts, np.broadcast_to(point, found.starts.shape), marks[~own])
    covered = _crossings(scene.begins, scene.ends, found.boxes).sum(axis=0)
    strange = np.isnan(found.starts[:, 0]) & _nearer(found.boxes, point, marks[~own])
    disturbed = _disturbance(areas) + CROSS * (crossed.sum(axis=1) + covered / 2 + strange)
    return found._replace(costs=found.costs + disturbed)


def _nearer(boxes: Boxes, point: NDArray[np.float64], marks: Boxes) -> NDArray[np.bool_]:
    """Whether a box lies nearer to another mark than to its own point, so that a reader would take it for that."""
    centres = np.concatenate([point[None], (marks[:, :2] + marks[:, 2:]) / 2])
    apart = np.stack(
        [
            np.maximum(boxes[:, None, axis] - centres[:, axis], centres[:, axis] - boxes[:, None, axis + 2])
            for axis in (0, 1)
        ]
    )
    distances = np.hypot(*np.clip(apart, 0, None))
    nearer: NDArray[np.bool_] = np.any(distances[:, 1:] < distances[:, :1], axis=1)
    return nearer


def _choose(points: NDArray[np.float64], there: Sequence[_Places]) -> list[int]:
    """Return for each label the number of its place."""
    order = sorted(range(len(there)), key=lambda one: -_crowd(one, points))
    taken: dict[int, int] = {}
    for sweep in range(1 + SWEEPS):
        before = dict(taken)
        for index in order:
            costs = there[index].costs.copy()
            rest = [one for one in taken if one != index]
            if rest:
                boxes = np.array([there[one].boxes[taken[one]] for one in rest])
                starts = np.array([there[one].starts[taken[one]] for one in rest])
                ends = points[rest]
                mine = np.broadcast_to(points[index], there[index].starts.shape)
                costs += _disturbance(_overlaps(there[index].boxes, boxes))
                costs += CROSS * _crossings(there[index].starts, mine, boxes).sum(axis=1)
                costs += CROSS * _crossings(starts, ends, there[index].boxes).sum(axis=0)
                costs += CROSS * _meetings(there[index].starts, mine, starts, ends).sum(axis=1)
            taken[index] = int(costs.argmin())
        if sweep and taken == before:
            break
    return [taken[index] for index in range(len(there))]


def _crowd(index: int, points: NDArray[np.float64]) -> float:
    """Return how near the other points are."""
    distances = np.hypot(*(points - points[index]).T)
    return float((1 / (1 + np.delete(distances, index))).sum())


def _side(part: float) -> float:
    """Return which side of the point a box of this direction lies on: -1, 1, or between near the axis."""
    return max(-1.0, min(1.0, 1.5 * part))


def _overlaps(some: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Return the areas that boxes share, (len(some), len(others))."""
    a, b = some[:, None], others[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared: NDArray[np.float64] = np.clip(width, 0, None) * np.clip(height, 0, None)
    return shared


def _disturbance(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what overlaps cost each row: something for touching at all, and more with the area."""
    cost: NDArray[np.float64] = (areas + TOUCH * (areas > 0)).sum(axis=1)
    return cost


def _crossings(starts: NDArray[np.float64], ends: NDArray[np.float64], boxes: Boxes) -> NDArray[np.bool_]:
    """Whether lines cross boxes, (lines, boxes), by Liang and Barsky (1984); a line that begins with NaN crosses none.

    Lines that do not exist and boxes that are only touched do not count.
    """
    low, high = np.zeros((len(starts), len(boxes))), np.ones((len(starts), len(boxes)))
    with np.errstate(divide="ignore", invalid="ignore"):
        for axis in (0, 1):
            begin, step = starts[:, axis, None], (ends - starts)[:, axis, None]
            first, second = (boxes[None, :, axis] - begin) / step, (boxes[None, :, axis + 2] - begin) / step
            beside = (step == 0) & ((begin <= boxes[None, :, axis]) | (begin >= boxes[None, :, axis + 2]))
            low = np.where(step == 0, np.where(beside, 2.0, low), np.maximum(low, np.fmin(first, second)))
            high = np.where(step == 0, high, np.minimum(high, np.fmax(first, second)))
    there = np.isfinite(starts[:, :1])
    crossed: NDArray[np.bool_] = there & (low + 1e-9 < high)
    return crossed


def _meetings(
    starts: NDArray[np.float64], ends: NDArray[np.float64], others: NDArray[np.float64], other_ends: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether lines cross lines, (lines, others); lines that begin with NaN cross none."""
    a, b, c, d = starts[:, None], ends[:, None], others[None], other_ends[None]

    def turn(p: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64]) -> NDArray[np.float64]:
        area: NDArray[np.float64] = (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            r[..., 0] - p[..., 0]
        )
        return area

    met: NDArray[np.bool_] = (turn(a, b, c) * turn(a, b, d) < 0) & (turn(c, d, a) * turn(c, d, b) < 0)
    return met
