"""Agreement between methods, image by image, and the images that fool the most networks. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advbench.benchmark.records.statistics import Correct
from advbench.reports.drawing.colours import BLUE
from advbench.reports.drawing.heat_map import heat
from advbench.reports.drawing.points import footnote
from advbench.reports.drawing.style import PAGE, PAPER, FigureLayout, ReportError, caption, figure


@dataclass(frozen=True)
class MethodAgreement:
    """How alike the outcomes of rows are.

    Attributes:
        rows: names.
        kappa: Cohen's kappa (1960), (rows, rows): 1 the same images, 0 as by chance; the mean over all pairs of their
            networks, a network never with itself. NaN where a row has but one network (diagonal), or where chance
            alone agrees on everything.
        fooled: for each image how many networks are fooled.
        networks: how many networks there are.
    """

    rows: tuple[str, ...]
    kappa: NDArray[np.float64]
    fooled: NDArray[np.int64]
    networks: int

    def hardest(self, count: int) -> list[tuple[int, int]]:
        """Return the `count` images that fool the most networks, (test index, networks), the lowest index first."""
        order = sorted(range(len(self.fooled)), key=lambda image: (-int(self.fooled[image]), image))
        return [(image, int(self.fooled[image])) for image in order[:count]]

    @property
    def always(self) -> int:
        """Images that fool every network."""
        return int((self.fooled == self.networks).sum())

    @property
    def never(self) -> int:
        """Images that fool no network."""
        return int((self.fooled == 0).sum())


def kappa(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return Cohen's kappa of two outcomes (images,); NaN where chance alone agrees on everything."""
    both, share_a, share_b = float((a == b).mean()), float(a.mean()), float(b.mean())
    chance = share_a * share_b + (1 - share_a) * (1 - share_b)
    return (both - chance) / (1 - chance) if chance < 1 else float("nan")


def agree(rows: Mapping[str, Correct]) -> MethodAgreement:
    """Compare the outcomes (seeds, images) of rows on the same images.

    Raises:
        ReportError: if there are no rows, or they are of different images.
    """
    if len({correct.shape[1] for correct in rows.values()}) != 1:
        raise ReportError("agreement needs outcomes on the same test images; choose one protocol")
    names = tuple(rows)
    table = np.full((len(names), len(names)), np.nan)
    for i, first in enumerate(names):
        for j, second in enumerate(names[: i + 1]):
            pairs = [
                kappa(a, b)
                for m, a in enumerate(rows[first])
                for n, b in enumerate(rows[second])
                if i != j or n < m  # a network is not compared with itself
            ]
            finite = [value for value in pairs if np.isfinite(value)]
            if finite:
                table[i, j] = table[j, i] = float(np.mean(finite))
    stacked = np.concatenate(list(rows.values()))
    return MethodAgreement(names, table, (~stacked).sum(axis=0).astype(np.int64), len(stacked))


def draw(found: MethodAgreement, *, title: str, layout: FigureLayout = PAPER) -> Figure:
    """Draw the matrix of agreement above how many networks each image fools; `title`: "AutoAttack, best".

    Raises:
        ReportError: for a single network.
    """
    if found.networks < 2:
        raise ReportError("agreement of methods needs two networks; train another one, or the same with another seed")
    rows = len(found.rows)
    beside = not layout.paper or rows <= 8
    tall = max(1.5, min(0.24 * rows, 0.14 * rows + 1.0) if layout.paper else 0.125 * rows) + 0.9
    with figure(layout.inches(PAGE), tall + (0 if beside else 1.5), layout) as made:
        if beside:
            left, right = made.subplots(1, 2, width_ratios=[3, 2])
        else:
            left, right = made.subplots(2, 1, height_ratios=[tall, 1.3])
        counts = np.bincount(found.fooled, minlength=found.networks + 1)
        right.bar(range(found.networks + 1), counts, color=BLUE)
        right.set_xlabel(f"networks fooled, of {found.networks}")
        right.set_ylabel("test images")
        right.grid(visible=False, axis="x")
        for axis in (right.xaxis, right.yaxis):
            axis.get_major_locator().set_params(integer=True)
        about = f"{title}: agreement on images, 100 × Cohen's kappa"
        caption(left, about, footnote(found.rows), share=0.55 if beside else 0.85)
        heat(left, 100 * found.kappa, rows=found.rows, columns=found.rows)
        return made
