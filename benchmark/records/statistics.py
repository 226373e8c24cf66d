"""Intervals, paired tests and ranks with ties, as the protocol defines them. Torch-free.

Seeds are summarised by mean and sample standard deviation; one seed by a Wilson interval, which covers the draw of the
test images only. Two rows are compared image by image: exact McNemar tests over all pairings of their seeds, Holm over
all pairs of the board, and a hierarchical bootstrap over seeds and images. A row beats another where all of them agree.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr
from scipy.stats import norm

Correct = NDArray[np.bool_]
"""Outcomes of one row, (seeds, images): True where the image is still classified correctly."""
DRAWN_AT_ONCE = 2**24
"""Image indices drawn at a time by the bootstrap; bounds its memory to some 200 MB."""


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


def mcnemar(a: Correct, b: Correct) -> float:
    """Return the exact two-sided McNemar p-value of two networks on the same images.

    The discordant images are binomial with probability 1/2 under the null hypothesis; without any, p = 1.

    Args:
        a: outcomes of the first network, (images,).
        b: outcomes of the second, in the same order.

    Raises:
        StatisticsError: if they are not outcomes of the same images.
    """
    _check({"first": np.atleast_2d(a), "second": np.atleast_2d(b)})
    return float(_pairwise_mcnemar(np.atleast_2d(a), np.atleast_2d(b))[0, 0])


def _pairwise_mcnemar(a: Correct, b: Correct) -> NDArray[np.float64]:
    """Return p for each seed of a against each seed of b, (seeds of a, seeds of b)."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    only_a = np.rint(first @ (1 - second).T)
    only_b = np.rint((1 - first) @ second.T)
    # Binomial(n, 1/2) is symmetric: the two-sided tail is twice the smaller one.
    tail: NDArray[np.float64] = bdtr(np.minimum(only_a, only_b), (only_a + only_b).astype(np.int64), 0.5)
    return np.minimum(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for position, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        running = max(running, min(1.0, (len(p_values) - position) * p_values[index]))
        adjusted[index] = running
    return adjusted


def bootstrap(rows: Mapping[str, Correct], *, draws: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Draw the accuracy of every row from a hierarchical bootstrap over seeds and images.

    Each draw takes one sample of image indices, shared by all rows and seeds, and for each row its own sample of
    seeds. The draws of a row depend on its name, its outcomes and `seed` only, never on the other rows.

    Returns:
        For each row the accuracies (draws,) in [0,1]; their differences are draws of the difference of two rows.

    Raises:
        StatisticsError: if the rows are not outcomes of the same images.
    """
    images = _check(rows)
    if not rows:
        return {}
    stacked = np.concatenate([rows[name].T for name in rows], axis=1).astype(np.float32)
    generator = np.random.default_rng(seed)
    shares = np.empty((draws, stacked.shape[1]))
    at_once = max(1, DRAWN_AT_ONCE // images)
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        indices = generator.integers(0, images, size=(size, images))
        indices += np.arange(size)[:, None] * images
        counts = np.bincount(indices.ravel(), minlength=size * images).reshape(size, images)
        # float32 counts integers exactly up to 2**24, more than any test set.
        shares[start : start + size] = (counts.astype(np.float32) @ stacked) / images
    sampled, column = {}, 0
    for name, correct in rows.items():
        seeds = len(correct)
        own = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
        chosen = own.integers(0, seeds, size=(draws, seeds))
        sampled[name] = np.take_along_axis(shares[:, column : column + seeds], chosen, axis=1).mean(axis=1)
        column += seeds
    return sampled


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired comparison of two rows.

    Attributes:
        a, b: names of the rows.
        difference: mean accuracy of a minus that of b, in [-1, 1].
        p: largest exact McNemar p over all pairings of their seeds (intersection-union).
        adjusted: p after Holm over all pairs of the board.
        same_sign: whether the difference has the same, non-zero sign in every pairing.
        interval: 95 % percentile interval of the difference, hierarchical bootstrap.
        single: one of the rows has one seed: the verdict is about these two networks, not these two methods.
        winner: the row that beats the other, or None for a tie.
    """

    a: str
    b: str
    difference: float
    p: float
    adjusted: float
    same_sign: bool
    interval: Interval
    single: bool
    winner: str | None


def compare(rows: Mapping[str, Correct], *, alpha: float, draws: int, seed: int) -> tuple[Comparison, ...]:
    """Compare all pairs of rows on the same images.

    A beats B if the adjusted p is below alpha, the sign is the same in all pairings, and the bootstrap interval
    excludes 0; with one seed on either side the interval says nothing about seeds and is not asked.

    Raises:
        StatisticsError: if the rows are not outcomes of the same images.
    """
    _check(rows)
    pairs = list(combinations(rows, 2))
    p_values = [float(_pairwise_mcnemar(rows[a], rows[b]).max()) for a, b in pairs]
    sampled = bootstrap(rows, draws=draws, seed=seed) if pairs else {}
    found = []
    for (a, b), p, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        shares_a, shares_b = rows[a].mean(axis=1), rows[b].mean(axis=1)
        signs = np.sign(rows[a].sum(axis=1)[:, None] - rows[b].sum(axis=1)[None, :])
        same_sign = bool(np.all(signs == signs[0, 0]) and signs[0, 0] != 0)
        low, high = np.quantile(sampled[a] - sampled[b], [0.025, 0.975])
        single = len(shares_a) == 1 or len(shares_b) == 1
        beaten = adjusted < alpha and same_sign and (single or low > 0 or high < 0)
        winner = (a if signs[0, 0] > 0 else b) if beaten else None
        difference = float(shares_a.mean() - shares_b.mean())
        interval = Interval(float(low), float(high))
        found.append(Comparison(a, b, difference, p, adjusted, same_sign, interval, single, winner))
    return tuple(found)


def ranks(names: Sequence[str], comparisons: Sequence[Comparison]) -> dict[str, int]:
    """Return for each row 1 + the number of rows that beat it; equal ranks are tied, never chained."""
    lost = dict.fromkeys(names, 0)
    for comparison in comparisons:
        if comparison.winner is not None:
            lost[comparison.b if comparison.winner == comparison.a else comparison.a] += 1
    return {name: 1 + count for name, count in lost.items()}


def _check(rows: Mapping[str, Correct]) -> int:
    """Return the common number of images, or refuse."""
    for name, correct in rows.items():
        if correct.dtype != np.bool_ or correct.ndim != 2 or not correct.size:
            raise StatisticsError(f"{name}: outcomes must be booleans of shape (seeds, images), not empty")
    sizes = {correct.shape[1] for correct in rows.values()}
    if len(sizes) > 1:
        raise StatisticsError(f"paired tests need the same test images, got sets of {sorted(sizes)} images")
    return sizes.pop() if sizes else 0
