"""Class-wise accuracy: which classes a method defends, as a table of numbers and as a figure. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advbench.benchmark.records.statistics import Correct
from advbench.reports.drawing.colours import FILLS, INK
from advbench.reports.drawing.heat_map import heat, turn
from advbench.reports.drawing.points import footnote
from advbench.reports.drawing.style import PAGE, PAPER, FigureLayout, ReportError, caption, figure, scaled

Labels = NDArray[np.int64]
NAMED = 20
"""With more classes than this only the easiest and the hardest are drawn."""

HALF = 0.5
"""Per cent below which a bar cannot be seen and is written as 0."""


@dataclass(frozen=True)
class ClassTable:
    """Accuracy in [0,1] of each row (method) on each class, mean over seeds: (rows, classes); NaN without images."""

    rows: tuple[str, ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    shares: NDArray[np.float64]

    def hardest(self) -> list[int]:
        """Return the classes in order of their mean over rows, hardest first; classes without images last."""
        filled = [number for number, count in enumerate(self.counts) if count]
        return sorted(filled, key=lambda number: (float(self.shares[:, number].mean()), number))


def by_class(rows: Mapping[str, Correct], labels: Labels, classes: Sequence[str]) -> ClassTable:
    """Cut outcomes (seeds, images) of some rows by class.

    Raises:
        ReportError: if there are no rows, or labels are not those of the outcomes.
    """
    if not rows:
        raise ReportError("no outcomes to cut by class; evaluate first")
    for name, correct in rows.items():
        if correct.shape[1] != len(labels):
            raise ReportError(f"{name}: {correct.shape[1]} outcomes, but {len(labels)} labels of other test images")
    shares = np.full((len(rows), len(classes)), np.nan)
    for number in range(len(classes)):
        own = labels == number
        if own.any():
            shares[:, number] = [correct[:, own].mean() for correct in rows.values()]
    counts = np.bincount(labels, minlength=len(classes))
    return ClassTable(tuple(rows), tuple(classes), tuple(int(count) for count in counts), shares)


def draw(table: ClassTable, *, title: str, layout: FigureLayout = PAPER) -> Figure:
    """Draw the table, classes from hardest to easiest; `title` says what was measured: "AutoAttack, best".

    A few methods are bars, of which each has its hatch; many are a heat map with its numbers.
    """
    order = table.hardest()
    about = f"{title}, by class; hardest first"
    if len(order) > NAMED:
        about += f": {NAMED // 2} hardest and {NAMED // 2} easiest of {len(order)}"
        order = order[: NAMED // 2] + order[-NAMED // 2 :]
    shown = 100 * table.shares[:, order]
    names = [table.classes[number] for number in order]
    bars = len(table.rows) <= len(FILLS)
    height = 2.2 if bars else 0.9 + (0.19 if layout.paper else 0.13) * len(table.rows)
    with figure(layout.inches(PAGE), height, layout) as made:
        axes = made.add_subplot()
        caption(axes, f"{about} (%)", footnote(table.rows), share=0.85)
        if bars:
            _bars(axes, shown, table.rows, names)
        else:
            heat(axes, shown, rows=table.rows, columns=names)
        return made


def _bars(axes: Axes, shown: NDArray[np.float64], rows: Sequence[str], names: Sequence[str]) -> None:
    """Draw a group of bars for each class."""
    share = 0.8 / len(rows)
    for number, (name, values, (colour, hatch)) in enumerate(zip(rows, shown, FILLS, strict=False)):
        places = np.arange(len(names)) + (number - (len(rows) - 1) / 2) * share
        edge: dict[str, Any] = {"edgecolor": INK, "linewidth": scaled(0.4)}
        axes.bar(places, values, share, color=colour, hatch=hatch, label=name, zorder=2, **edge)
        for place in places[values < HALF]:
            axes.text(place, 1, "0", ha="center", fontsize="x-small")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, 100)
    axes.set_ylabel("Accuracy (%)")
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.figure.legend(loc="outside lower center", ncols=len(rows))
    turn(axes)
