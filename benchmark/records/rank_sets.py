"""Rank sets: which ranks of a method its outcomes leave open. Version 2 of the protocol's statistics; torch-free.

B beats A if a one-sided test of their mean accuracies rejects. A's own seed variance never enters a claim against A
(its place is taken by the pool over the other rows), and B's enters as far as it exceeds the pool: a noisy row loses as
a quiet one does, and wins less. docs/statistics.md has the model, the proofs and the simulated levels and power.

The ends of the rank set count claims, as in Mogstad, Romano, Shaikh and Wilhelm, "Inference for Ranks with
Applications to Mobility across Neighbourhoods and Academic Achievement across Countries", REStud 91 (2024).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import beta, chi2, f, nct
from scipy.stats import t as student

from advbench.benchmark.records.statistics import Correct, StatisticsError

Floats = NDArray[np.float64]
POOLED_DF = 8
"""Degrees of freedom of seed variance, summed over complete rows, below which no method has a rank."""
_NODES = 1024
"""Quantiles by which moments of an order statistic are integrated; its degrees of freedom are right to 1 %."""


@dataclass(frozen=True, slots=True)
class OrderedComparison:
    """The claim that one row beats another, with its one-sided test.

    Attributes:
        better, worse: names of the rows; the null hypothesis is that `better` is not better.
        difference: mean accuracy of `better` minus that of `worse`, in [-1, 1].
        statistic: T, the difference in units of its standard error.
        df: degrees of freedom of T.
        p: one-sided p-value of T.
        adjusted: p after Holm over the claims against `worse`, times the number of rows.
        winner: `better` where the claim holds, else None.
    """

    better: str
    worse: str
    difference: float
    statistic: float
    df: float
    p: float
    adjusted: float
    winner: str | None


@dataclass(frozen=True, slots=True)
class RankSet:
    """The ranks `low` to `high` that a row may have; all rows hold theirs with the board's confidence."""

    low: int
    high: int

    @property
    def bold(self) -> bool:
        """No row beats this one: it may be the first."""
        return self.low == 1


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one board says of its methods.

    Attributes:
        order: complete rows by mean accuracy, best first; equal means by name.
        provisional: rows with fewer seeds than the protocol asks, ordered so too; they take part in nothing else.
        sets: rank set of every complete row in this order; empty where the board cannot rank methods.
        comparisons: every ordered pair of complete rows; empty where the board cannot rank methods.
        pooled_df: degrees of freedom of seed variance, summed over the complete rows.
        pooled_sd: the board's seed noise s_0 over all complete rows, in [0, 1]; None where no row has two seeds.
        noisy: rows in this order whose seeds scatter more than the others' (F test, p < alpha / rows): what beats them
            would beat them at the board's noise, which is a precaution and no statement about their means.
    """

    order: tuple[str, ...]
    provisional: tuple[str, ...]
    sets: Mapping[str, RankSet]
    comparisons: tuple[OrderedComparison, ...]
    pooled_df: int
    pooled_sd: float | None
    noisy: tuple[str, ...] = ()

    @property
    def ranks_methods(self) -> bool:
        """Whether there are degrees of freedom enough to tell methods, not only networks, apart."""
        return self.pooled_df >= POOLED_DF


def rank(rows: Mapping[str, Correct], *, seeds: int, alpha: float) -> Ranking:
    """Rank the rows of a board by their outcomes under one attack.

    Args:
        rows: outcomes (seeds, images) by name, all on the same images in the same order.
        seeds: how many the protocol asks; rows with fewer are provisional.
        alpha: probability, at most, that the board holds any false claim; docs/statistics.md says under which model.

    Raises:
        StatisticsError: if outcomes are not boolean matrices over the same two or more images.
    """
    _check(rows)
    means = {name: float(correct.mean()) for name, correct in rows.items()}
    order = sorted(rows, key=lambda name: (-means[name], name))
    complete = tuple(name for name in order if len(rows[name]) >= seeds)
    provisional = tuple(name for name in order if len(rows[name]) < seeds)
    pooled_df = sum(len(rows[name]) - 1 for name in complete)
    if pooled_df < POOLED_DF:
        return Ranking(complete, provisional, {}, (), pooled_df, _pooled_sd(rows, complete))
    outcomes = [rows[name] for name in complete]
    noise = _Noise.of(outcomes)
    tests = _Tests.of(outcomes, noise)
    adjusted = _adjust(tests.p)
    wins = adjusted < alpha
    comparisons = tuple(
        OrderedComparison(
            better,
            worse,
            float(tests.difference[b, a]),
            float(tests.statistic[b, a]),
            float(tests.df[b, a]),
            float(tests.p[b, a]),
            float(adjusted[b, a]),
            better if wins[b, a] else None,
        )
        for b, better in enumerate(complete)
        for a, worse in enumerate(complete)
        if a != b
    )
    sets = {
        name: RankSet(1 + int(wins[:, row].sum()), len(complete) - int(wins[row].sum()))
        for row, name in enumerate(complete)
    }
    noisy = tuple(name for name, p in zip(complete, noise.excess_p, strict=True) if p < alpha / len(complete))
    return Ranking(complete, provisional, sets, comparisons, pooled_df, _pooled_sd(rows, complete), noisy)


@dataclass(frozen=True, slots=True)
class _Noise:
    """Seed noise of the rows, each (rows,): seeds, own variance, and s_0² of the other rows with its df."""

    seeds: Floats
    own: Floats
    pool: Floats
    pool_df: Floats

    @classmethod
    def of(cls, outcomes: list[Correct]) -> "_Noise":
        seeds = np.array([len(row) for row in outcomes], dtype=np.float64)
        own = np.array([_seed_variance(row) for row in outcomes])
        pools = [_pool(np.delete(own, row), np.delete(seeds, row) - 1) for row in range(len(outcomes))]
        pool, pool_df = (np.array(column) for column in zip(*pools, strict=True))
        return cls(seeds, own, pool, pool_df)

    @property
    def excess_p(self) -> Floats:
        """One-sided p of the F test that a row's variance is not above the other rows'."""
        ratio = np.divide(self.own, self.pool, out=np.where(self.own > 0, np.inf, 0.0), where=self.pool > 0)
        p: Floats = f.sf(ratio, np.maximum(self.seeds - 1, 1), self.pool_df)
        return p


@dataclass(frozen=True, slots=True)
class _Tests:
    """Tests of all ordered pairs, each (rows, rows): entry [b, a] is about the claim that b beats a."""

    difference: Floats
    statistic: Floats
    df: Floats
    p: Floats

    @classmethod
    def of(cls, outcomes: list[Correct], noise: _Noise) -> "_Tests":
        images, n, pool = outcomes[0].shape[1], noise.seeds, noise.pool
        apart, together = _image_variances(outcomes, n)
        # Seeds: what the pool says of both rows, and more for b where its own seeds say more.
        pooled = pool[None, :] * (1 / n[:, None] + 1 / n[None, :])
        excess = np.maximum(noise.own[:, None] - pool[None, :], 0) / n[:, None]
        floor = np.maximum(together, 1 / images) / images
        variance = np.maximum(pooled + excess + apart / images, floor)
        usual = np.maximum(pooled + apart / images, floor)
        share = pooled / usual
        df = 1 / np.maximum(share**2 / noise.pool_df[None, :] + (1 - share) ** 2 / (images - 1), 1 / (images - 1))
        means = np.array([row.mean() for row in outcomes])
        difference = means[:, None] - means[None, :]
        statistic = difference / np.sqrt(variance)
        p: Floats = stdtr(df, -statistic)
        return cls(difference, statistic, df, p)


def _image_variances(outcomes: list[Correct], n: Floats) -> tuple[Floats, Floats]:
    """Return the variance over images of the difference of two rows, (rows, rows): without seed noise, and with it.

    "With" is s²_img of the difference of seed means. It holds the scatter of seeds at single images, divided by n,
    which the variance of seed accuracies holds already; "without" leaves it out, as two-way clustered variances do
    (Cameron, Gelbach, Miller, J. Business & Economic Statistics 29, 2011).
    """
    correct = np.stack([row.mean(axis=0) for row in outcomes])
    # n / (n - 1) · mean of q(1 - q), divided by n: the mean over images of the variance of a seed mean.
    scatter = (correct * (1 - correct)).mean(axis=1) / np.maximum(n - 1, 1)
    centred = correct - correct.mean(axis=1, keepdims=True)
    products = centred @ centred.T / (correct.shape[1] - 1)
    own = np.diag(products)
    together = np.maximum(own[:, None] + own[None, :] - 2 * products, 0)
    return np.maximum(together - scatter[:, None] - scatter[None, :], 0), together


def _adjust(p: Floats) -> Floats:
    """Return p adjusted by Holm over the claims against each row, and by Bonferroni over the rows that lose.

    One family for each loser, (rows, rows) with the winner first: what the board says against a row then depends on
    the claims against this row only. The diagonal is 1.
    """
    rows = len(p)
    if rows < 2:
        return np.ones_like(p)
    p = p.copy()
    np.fill_diagonal(p, 1)
    order = np.argsort(p, axis=0, kind="stable")
    left = np.maximum(rows - 1 - np.arange(rows), 1)[:, None]
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, axis=0) * rows * left, axis=0)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1), axis=0)
    np.fill_diagonal(adjusted, 1)
    return adjusted


def _seed_variance(row: Correct) -> float:
    """Return the sample variance of the seeds' accuracies; 0 for a single seed."""
    return float(row.mean(axis=1).var(ddof=1)) if len(row) > 1 else 0.0


def _pool(variances: Floats, df: Floats) -> tuple[float, float]:
    """Return s_0² of some rows, the median of s²·d/χ²_d,1/2, and its degrees of freedom; rows of one seed are left out.

    Each term has the median σ² where all rows have the variance σ², and a few noisy rows do not move the median.
    """
    variances, df = variances[df > 0], df[df > 0]
    if not len(df):
        # Nothing is known of the noise: a variance that no accuracy can have, so that nothing is claimed.
        return 1.0, 1.0
    pool = float(np.median(variances * df / chi2.median(df)))
    return pool, float(np.mean([_median_df(len(df), int(d)) for d in df]))


@lru_cache(maxsize=1024)
def _median_df(rows: int, df: int) -> float:
    """Return the degrees of freedom of a χ² whose relative variance is that of the median of `rows` χ² with `df`.

    By the distribution of the middle order statistic; of an even number of rows the median is the mean of two, whose
    degrees of freedom this understates (two rows by a quarter, ten by a tenth).
    """
    places = beta.ppf((np.arange(_NODES) + 0.5) / _NODES, (rows + 1) / 2, (rows + 1) / 2)
    values = chi2.ppf(places, df)
    return float(2 * values.mean() ** 2 / values.var())


def _pooled_sd(rows: Mapping[str, Correct], names: tuple[str, ...]) -> float | None:
    several = [rows[name] for name in names if len(rows[name]) > 1]
    if not several:
        return None
    df = np.array([len(row) - 1.0 for row in several])
    return math.sqrt(_pool(np.array([_seed_variance(row) for row in several]), df)[0])


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
    pool_df = _median_df(rows - 1, seeds - 1)
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


def _check(rows: Mapping[str, Correct]) -> None:
    for name, correct in rows.items():
        if correct.dtype != np.bool_ or correct.ndim != 2 or not correct.size:
            raise StatisticsError(f"{name}: outcomes must be booleans of shape (seeds, images), not empty")
    sizes = {correct.shape[1] for correct in rows.values()}
    if len(sizes) > 1:
        raise StatisticsError(f"paired tests need the same test images, got sets of {sorted(sizes)} images")
    if sizes == {1}:
        raise StatisticsError("one image has no variance; rank on two or more")
