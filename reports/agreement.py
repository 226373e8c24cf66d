"""Agreement between methods, image by image, and the images that fool the most networks. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advbench.benchmark.statistics import Correct
from advbench.reports.style import COLUMN, FORMATS, INK, Look, ReportError, figure, save


@dataclass(frozen=True)
class Agreement:
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


def agree(rows: Mapping[str, Correct]) -> Agreement:
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
    return Agreement(names, table, (~stacked).sum(axis=0).astype(np.int64), len(stacked))


def draw(
    found: Agreement, stem: Path, *, title: str, formats: Sequence[str] = FORMATS, look: Look = "paper"
) -> list[Path]:
    """Draw the matrix of agreement beside how many networks each image fools; return the files."""
    size = max(1.6, 0.8 + 0.22 * len(found.rows))
    with figure(2 * COLUMN, size + 0.5, look) as made:
        left, right = made.subplots(1, 2, width_ratios=[3, 2])
        left.imshow(np.ma.masked_invalid(found.kappa), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(found.kappa.shape):
            value = found.kappa[row, column]
            said = f"{value:.2f}" if np.isfinite(value) else "–"
            left.text(column, row, said, ha="center", va="center", fontsize=6, color="white" if value > 0.6 else INK)
        left.set_yticks(range(len(found.rows)), found.rows)
        left.set_xticks(range(len(found.rows)), found.rows, rotation=45, ha="right")
        left.tick_params(length=0)
        left.grid(visible=False)
        left.spines[:].set_visible(False)
        left.set_title(f"{title}: Cohen's kappa", loc="left")
        counts = np.bincount(found.fooled, minlength=found.networks + 1)
        right.bar(range(found.networks + 1), counts, color="#0072b2")
        right.set_xlabel(f"networks fooled, of {found.networks}")
        right.set_ylabel("test images")
        right.xaxis.get_major_locator().set_params(integer=True)
        return save(made, stem, formats)
