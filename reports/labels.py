"""Put labels beside points so that they cover neither each other nor the points."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

DIRECTIONS = 16
CROWD = 12
"""More labels than this are set smaller."""
REACHES = (1.0, 1.8, 2.8, 4.0, 5.5, 7.5, 10.0, 13.0)
"""Distances tried, in units of the first one; beyond it a line leads back to the point."""


class Label(NamedTuple):
    """A text that belongs to a point in data coordinates."""

    text: str
    x: float
    y: float
    colour: str = "black"


def place(axes: Axes, labels: Sequence[Label], *, obstacles: Sequence[tuple[float, float]] = ()) -> list[Annotation]:
    """Annotate points, each label at the nearest free place.

    Crowded points choose first. Where nothing is free the place with the least overlap is taken, so that every point
    is named whatever happens.

    Args:
        axes: with their final limits and size.
        labels: texts and their points.
        obstacles: further points, in data coordinates, that no label may cover.

    Returns:
        The annotations, in the order of `labels`.
    """
    figure = axes.figure
    size = "medium" if len(labels) <= CROWD else "small"
    figure.canvas.draw()
    if not isinstance(figure.canvas, FigureCanvasAgg):
        raise TypeError("labels are placed on an Agg canvas")
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    unit = figure.dpi / 72
    points = [_pixels(axes, label.x, label.y) for label in labels]
    others = [_pixels(axes, x, y) for x, y in obstacles]
    radius = 4.0 * unit
    taken = [_around(x, y, radius) for x, y in [*points, *others]]
    scene = _Scene(taken, frame, unit * 7.0)
    made: dict[int, Annotation] = {}
    sizes = []
    for label in labels:
        probe = axes.text(0, 0, label.text, fontsize=size)
        box = probe.get_window_extent(renderer)
        sizes.append((box.width, box.height))
        probe.remove()
    order = sorted(range(len(labels)), key=lambda one: (-_crowd(one, points), labels[one].text))
    for index in order:
        x, y = points[index]
        found, reach = _best(points[index], sizes[index], scene)
        scene.taken.append(found)
        line = {"arrowstyle": "-", "color": "#9a9a9a", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        centre_x, centre_y = (found.x0 + found.x1) / 2, (found.y0 + found.y1) / 2
        made[index] = axes.annotate(
            labels[index].text,
            xy=(labels[index].x, labels[index].y),
            xytext=((centre_x - x) / unit, (centre_y - y) / unit),
            textcoords="offset points",
            ha="center",
            va="center",
            color=labels[index].colour,
            fontsize=size,
            arrowprops=line if reach > REACHES[0] else None,
            zorder=5,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
    return [made[index] for index in range(len(labels))]


class _Scene(NamedTuple):
    """What is in the way, in pixels: boxes that are taken, the frame of the axes, the distance to a point."""

    taken: list[Bbox]
    frame: Bbox
    gap: float


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    first, second = axes.transData.transform((x, y))
    return float(first), float(second)


def _around(x: float, y: float, radius: float) -> Bbox:
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _crowd(index: int, points: Sequence[tuple[float, float]]) -> float:
    """Return how near the other points are."""
    x, y = points[index]
    return sum(1 / (1 + math.hypot(x - a, y - b)) for number, (a, b) in enumerate(points) if number != index)


def _best(point: tuple[float, float], size: tuple[float, float], scene: "_Scene") -> tuple[Bbox, float]:
    """Return the free box of a size nearest to a point, or the one that overlaps least, and how far out it is."""
    (x, y), (width, height) = point, size
    best: tuple[float, Bbox, float] | None = None
    for reach in REACHES:
        for step in range(DIRECTIONS):
            # Above to the right first: beside its point a label would lie on the point's horizontal bar.
            turn = DIRECTIONS // 8 + (step + 1) // 2 * (1 if step % 2 else -1)
            angle = 2 * math.pi * turn / DIRECTIONS
            centre_x = x + scene.gap * reach * math.cos(angle) + width / 2 * _side(math.cos(angle))
            centre_y = y + scene.gap * reach * math.sin(angle) + height / 2 * _side(math.sin(angle))
            box = Bbox.from_extents(
                centre_x - width / 2 - 1, centre_y - height / 2 - 1, centre_x + width / 2 + 1, centre_y + height / 2 + 1
            )
            cost = sum(_overlap(box, other) for other in scene.taken) + 4 * _outside(box, scene.frame)
            if cost == 0:
                return box, reach
            if best is None or cost < best[0]:
                best = (cost, box, reach)
    if best is None:
        raise AssertionError("there is at least one place")
    return best[1], best[2]


def _side(part: float) -> float:
    """Return which side of the point a box of this direction lies on: -1, 1, or between near the axis."""
    return max(-1.0, min(1.0, 1.5 * part))


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    """Return the area of a box that lies outside the frame."""
    return float(box.width * box.height) - _overlap(box, frame)
