"""Class-wise accuracy: which classes a method defends, as a table of numbers and as a figure. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advbench.benchmark.statistics import Correct
from advbench.reports.style import FORMATS, INK, PAGE, Look, ReportError, figure, save

Labels = NDArray[np.int64]
NAMED = 20
"""With more classes than this only the easiest and the hardest are drawn."""


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


def draw(
    table: ClassTable, stem: Path, *, title: str, formats: Sequence[str] = FORMATS, look: Look = "paper"
) -> list[Path]:
    """Draw the table as a heat map with its numbers, classes from hardest to easiest; return the files."""
    order = table.hardest()
    if len(order) > NAMED:
        order = order[: NAMED // 2] + order[-NAMED // 2 :]
    shown = 100 * table.shares[:, order]
    height = 0.9 + 0.22 * len(table.rows)
    with figure(PAGE, height, look) as made:
        axes = made.add_subplot()
        axes.imshow(shown, aspect="auto", cmap="Blues", vmin=0, vmax=100)
        for row, column in np.ndindex(shown.shape):
            value = shown[row, column]
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 60 else INK, fontsize=6
            )
        axes.set_yticks(range(len(table.rows)), table.rows)
        axes.set_xticks(range(len(order)), [table.classes[number] for number in order], rotation=45, ha="right")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{title} by class (%), hardest class first", loc="left")
        return save(made, stem, formats)
