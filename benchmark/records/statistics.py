"""Intervals and paired tests of networks, as the protocol defines them. Torch-free.

Seeds are summarised by mean and sample standard deviation; one seed by a Wilson interval, which covers the draw of the
test images only. Methods are compared in rank_sets.py.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr
from scipy.stats import norm

Correct = NDArray[np.bool_]
"""Outcomes of one row, (seeds, images): True where the image is still classified correctly."""


class StatisticsError(ValueError):
    """Outcomes that cannot be compared; the message is one line."""


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


class Summary(NamedTuple):
    """Mean and sample standard deviation (ddof 1) of n values; sd is None for a single value."""

    mean: float
    sd: float | None
    n: int


def summarize(values: Sequence[float]) -> Summary:
    """Return mean, sample standard deviation and count of the values of some seeds.

    Raises:
        StatisticsError: if there are none, or one is not finite.
    """
    if not values:
        raise StatisticsError("no values to summarise; a cell without values is missing, not zero")
    if not all(math.isfinite(value) for value in values):
        raise StatisticsError(f"a value is not finite: {list(values)}")
    array = np.asarray(values, dtype=np.float64)
    return Summary(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None, len(array))


def span(values: Sequence[float]) -> tuple[Interval, float]:
    """Return the span of n values, and the chance (n − 1)/(n + 1) that it holds one more, exchangeable with them.

    Distribution-free: each of n + 1 exchangeable values is as likely the least, or the greatest, of all.
    """
    return Interval(min(values), max(values)), (len(values) - 1) / (len(values) + 1)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927, without continuity correction).

    Raises:
        StatisticsError: unless 0 <= successes <= n and n > 0.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise StatisticsError(f"need 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = float(norm.ppf(0.5 + confidence / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes the bound is exactly 0 or 1; rounding must not push it beyond.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def natural_robust_ratio(clean: float, robust: float) -> float:
    """Return NRR = 2·clean·robust / (clean + robust), the harmonic mean; 0 when both are 0. Same unit in and out."""
    return 2 * clean * robust / (clean + robust) if clean + robust > 0 else 0.0


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the exact two-sided McNemar p-value of two networks on the same images.

    The discordant images are binomial with probability 1/2 under the null hypothesis; without any, p = 1.

    Args:
        a: outcomes of the first network, (images,).
        b: outcomes of the second, in the same order.

    Raises:
        StatisticsError: if they are not outcomes of the same images.
    """
    if a.shape != b.shape:
        raise StatisticsError(f"paired tests need the same test images, got sets of {len(a)} and {len(b)} images")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    # Binomial(n, 1/2) is symmetric: the two-sided tail is twice the smaller one.
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for position, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        running = max(running, min(1.0, (len(p_values) - position) * p_values[index]))
        adjusted[index] = running
    return adjusted
