"""How much accuracies vary over seeds and images, and which differences a board can find. Torch-free.

docs/statistics.md has the model.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2, nct
from scipy.stats import t as student

from advbench.benchmark.records.statistics import Correct, StatisticsError

Floats = NDArray[np.float64]
_NODES = 1024
"""Quantiles by which moments of an order statistic are integrated; its degrees of freedom are right to 1 %."""


@dataclass(frozen=True, slots=True)
class Variation:
    """What makes the accuracies of a board vary; standard deviations in [0, 1].

    Attributes:
        images: test images on which they were measured.
        seeds: of a row's accuracy over seeds on these images (s_0): training, and the scatter of outcomes.
        scatter: of the outcome at a single image over seeds, typical row; 1/√images of it is part of `seeds`.
        pairs: over images, of the difference of two rows' chances to be right, typical pair; 0 for a single row.
    """

    images: int
    seeds: float
    scatter: float
    pairs: float

    @classmethod
    def of(cls, outcomes: Sequence[Correct]) -> "Variation | None":
        """Return the variation of rows (seeds, images) on the same images; None where no row has two seeds."""
        several = [row for row in outcomes if len(row) > 1]
        if not several:
            return None
        df = np.array([len(row) - 1.0 for row in several])
        own, _ = pooled_variance(np.array([seed_variance(row) for row in several]), df)
        scatter = float(np.median([row.var(axis=0, ddof=1).mean() for row in several]))
        apart, _ = image_variances(several)
        pairs = float(np.median(apart[np.triu_indices(len(several), 1)])) if len(several) > 1 else 0.0
        return cls(several[0].shape[1], math.sqrt(own), math.sqrt(scatter), math.sqrt(pairs))

    def detectable(
        self, rows: int, seeds: int, alpha: float, *, images: int | None = None, power: float = 0.8
    ) -> float:
        """Return the smallest difference that a board of this variation finds; see `detectable_difference`.

        Args:
            rows: complete rows, two or more.
            seeds: of each row, two or more.
            alpha: level of the board.
            images: test images; those of the board by default.
            power: probability of finding the difference.
        """
        images = images or self.images
        training = max(self.seeds**2 - self.scatter**2 / self.images, 0.0)
        return detectable_difference(
            rows=rows,
            seeds=seeds,
            images=images,
            seed_sd=math.sqrt(training + self.scatter**2 / images),
            image_sd=self.pairs,
            alpha=alpha,
            power=power,
        )

    def seeds_needed(
        self, difference: float, rows: int, alpha: float, *, images: int | None = None, most: int
    ) -> int | None:
        """Return the fewest seeds with which a board finds a difference in [0, 1]; None if `most` are not enough."""

        def found(seeds: int) -> bool:
            return self.detectable(rows, seeds, alpha, images=images) <= difference

        # More seeds never find less: the first of them that is enough, by bisection.
        first = 2 + bisect_left(range(2, most + 1), x=True, key=found)
        return first if first <= most else None


def detectable_difference(
    *, rows: int, seeds: int, images: int, seed_sd: float, image_sd: float, alpha: float, power: float = 0.8
) -> float:
    """Return the smallest true difference of two accuracies that a board finds with the given power.

    For the hardest claim, the first against a row. All rows have the same number of seeds and the same noise.

    Args:
        rows: complete rows of the board, two or more.
        seeds: seeds of each row, two or more.
        images: test images.
        seed_sd: standard deviation of a row's accuracy over seeds.
        image_sd: standard deviation over images of the difference of two rows' chances to be right.
        alpha: level of the board.
        power: probability of finding the difference.

    Raises:
        StatisticsError: for fewer than two rows, seeds or images.
    """
    if min(rows, seeds, images) < 2:
        raise StatisticsError(f"need two or more, got {rows} rows, {seeds} seeds, {images} images")
    pool_df = median_df(rows - 1, seeds - 1)
    by_seeds, by_images = 2 * seed_sd**2 / seeds, image_sd**2 / images
    variance = max(by_seeds + by_images, 1 / images**2)
    share = by_seeds / variance
    df = 1 / max(share**2 / pool_df + (1 - share) ** 2 / (images - 1), 1 / (images - 1))
    critical = float(student.isf(alpha / (rows * (rows - 1)), df))
    low, high = 0.0, 2 * critical + 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if nct.sf(critical, df, middle) < power else (low, middle)
    return high * math.sqrt(variance)


def image_variances(outcomes: Sequence[Correct]) -> tuple[Floats, Floats]:
    """Return the variance over images of the difference of two rows, (rows, rows): without seed noise, and with it.

    "With" is s²_img of the difference of seed means. It holds the scatter of seeds at single images, divided by n,
    which the variance of seed accuracies holds already; "without" leaves it out, as two-way clustered variances do
    (Cameron, Gelbach, Miller, J. Business & Economic Statistics 29, 2011).
    """
    n = np.array([len(row) for row in outcomes])
    correct = np.stack([row.mean(axis=0) for row in outcomes])
    # n / (n - 1) · mean of q(1 - q), divided by n: the mean over images of the variance of a seed mean.
    scatter = (correct * (1 - correct)).mean(axis=1) / np.maximum(n - 1, 1)
    centred = correct - correct.mean(axis=1, keepdims=True)
    products = centred @ centred.T / (correct.shape[1] - 1)
    own = np.diag(products)
    together = np.maximum(own[:, None] + own[None, :] - 2 * products, 0)
    return np.maximum(together - scatter[:, None] - scatter[None, :], 0), together


def seed_variance(row: Correct) -> float:
    """Return the sample variance of the seeds' accuracies; 0 for a single seed."""
    return float(row.mean(axis=1).var(ddof=1)) if len(row) > 1 else 0.0


def pooled_variance(variances: Floats, df: Floats) -> tuple[float, float]:
    """Return s_0² of some rows, the median of s²·d/χ²_d,1/2, and its degrees of freedom; rows of one seed are left out.

    Each term has the median σ² where all rows have the variance σ², and a few noisy rows do not move the median.
    """
    variances, df = variances[df > 0], df[df > 0]
    if not len(df):
        # Nothing is known of the noise: a variance that no accuracy can have, so that nothing is claimed.
        return 1.0, 1.0
    pool = float(np.median(variances * df / chi2.median(df)))
    return pool, float(np.mean([median_df(len(df), int(d)) for d in df]))


@lru_cache(maxsize=1024)
def median_df(rows: int, df: int) -> float:
    """Return the degrees of freedom of a χ² whose relative variance is that of the median of `rows` χ² with `df`.

    By the distribution of the middle order statistic; of an even number of rows the median is the mean of two, whose
    degrees of freedom this understates (two rows by a quarter, ten by a tenth).
    """
    places = beta.ppf((np.arange(_NODES) + 0.5) / _NODES, (rows + 1) / 2, (rows + 1) / 2)
    values = chi2.ppf(places, df)
    return float(2 * values.mean() ** 2 / values.var())
