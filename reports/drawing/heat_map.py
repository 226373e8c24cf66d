"""A matrix of numbers as a heat map that fits: numbers as large as the cells allow, labels turned where they must."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from advbench.reports.drawing.colours import INK

DARK = 60
"""Per cent from which a cell is so dark that its number is white."""
SMALLEST = 4.5
"""Points; numbers that would have to be smaller are left out, and a bar says what the shades mean."""


def heat(axes: Axes, percent: NDArray[np.float64], *, rows: Sequence[str], columns: Sequence[str]) -> list[Text]:
    """Draw percentages (rows, columns) in shades that a grey print keeps, each with its number; NaN is a dash.

    Args:
        axes: of a figure whose other contents are drawn already: the numbers are fitted to the layout.
        percent: 0 … 100; what is below is drawn like 0.
        rows: labels of the rows.
        columns: labels of the columns.

    Returns:
        The numbers.
    """
    image = axes.imshow(np.ma.masked_invalid(percent), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    texts = []
    for row, column in np.ndindex(percent.shape):
        value = percent[row, column]
        number = f"{round(float(value))}".replace("-", "−") if np.isfinite(value) else "–"
        colour = "white" if value > DARK else INK
        texts.append(axes.text(column, row, number, ha="center", va="center_baseline", color=colour, clip_on=True))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    turn(axes)
    if not _fit(axes, texts, percent.shape):
        axes.figure.colorbar(image, ax=axes, location="top", fraction=0.03, pad=0.01, aspect=40)
    return texts


def turn(axes: Axes) -> None:
    """Turn the labels of the horizontal axis where they would run into each other."""
    figure = _drawn(axes)
    labels = [label for label in axes.get_xticklabels() if label.get_text()]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    gap = 0.03 * figure.dpi
    if any(after.x0 < box.x1 + gap for box, after in pairwise(boxes)):
        pitch = (boxes[-1].x0 + boxes[-1].x1 - boxes[0].x0 - boxes[0].x1) / 2 / (len(boxes) - 1)
        steep = pitch < 1.6 * max(box.height for box in boxes)
        axes.tick_params(axis="x", labelrotation=90 if steep else 40)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("center" if steep else "right")
            label.set_rotation_mode("default" if steep else "anchor")


def _drawn(axes: Axes) -> Figure:
    """Lay out the figure of axes, so that sizes can be measured."""
    figure = axes.figure
    if not isinstance(figure, Figure):
        raise TypeError("heat maps stand in a figure of their own, not in a part of one")
    figure.draw_without_rendering()
    return figure


def _fit(axes: Axes, texts: Sequence[Text], shape: tuple[int, ...]) -> bool:
    """Set the numbers as large as their cells allow, at most as large as the labels of the ticks; hide them if small.

    Returns:
        Whether they can be read.
    """
    figure = _drawn(axes)
    box = axes.get_window_extent()
    width, height = 72 / figure.dpi * box.width / shape[1], 72 / figure.dpi * box.height / shape[0]
    largest = max(len(text.get_text()) for text in texts)
    usual = float(axes.xaxis.get_ticklabels()[0].get_fontsize())
    size = min(0.9 * usual, 0.75 * height, 0.85 * width / (0.64 * largest))
    for text in texts:
        text.set_visible(size >= SMALLEST)
        text.set_fontsize(size)
    return bool(size >= SMALLEST)
