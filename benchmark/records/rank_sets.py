"""Rank sets: which ranks of a method its outcomes leave open. Torch-free.

B beats A if a one-sided test of their mean accuracies rejects. A's own seed variance never enters a claim against A
(its place is taken by the pool over the other rows), and B's enters as far as it exceeds the pool: a noisy row loses as
a quiet one does, and wins less. docs/statistics.md has the model, the proofs and the simulated levels and power.

The ends of the rank set count claims, as in Mogstad, Romano, Shaikh and Wilhelm, "Inference for Ranks with
Applications to Mobility across Neighbourhoods and Academic Achievement across Countries", REStud 91 (2024).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr
from scipy.stats import f
from scipy.stats import t as student

from advbench.benchmark.records.statistics import Correct, Interval, StatisticsError
from advbench.benchmark.records.variation import Floats, Variation, image_variances, pooled_variance, seed_variance

POOLED_DF = 8
"""Degrees of freedom of seed variance, summed over complete rows, below which no method has a rank."""


@dataclass(frozen=True, slots=True)
class OrderedComparison:
    """The claim that one row beats another, with its one-sided test.

    Attributes:
        better, worse: names of the rows; the null hypothesis is that `better` is not better.
        difference: mean accuracy of `better` minus that of `worse`, in [-1, 1].
        error: standard error of the difference, positive.
        df: degrees of freedom of the test.
        p: one-sided p-value.
        adjusted: p after Holm over the claims against `worse`, times the number of rows.
        holds: whether `adjusted` is below the board's level.
    """

    better: str
    worse: str
    difference: float
    error: float
    df: float
    p: float
    adjusted: float
    holds: bool

    @property
    def statistic(self) -> float:
        """T, the difference in units of its standard error."""
        return self.difference / self.error


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
        variation: of the complete rows; None where none of them has two seeds.
        noisy: rows in this order whose seeds scatter more than the others' (F test, p < alpha / rows): what beats them
            would beat them at the board's noise, which is a precaution and no statement about their means.
    """

    order: tuple[str, ...]
    provisional: tuple[str, ...]
    sets: Mapping[str, RankSet]
    comparisons: tuple[OrderedComparison, ...]
    pooled_df: int
    variation: Variation | None
    noisy: tuple[str, ...] = ()

    @property
    def ranks_methods(self) -> bool:
        """Whether there are degrees of freedom enough to tell methods, not only networks, apart."""
        return self.pooled_df >= POOLED_DF

    def pair(self, a: str, b: str) -> tuple[OrderedComparison, OrderedComparison]:
        """Return the claims that a beats b and that b beats a; both must be among `comparisons`."""
        found = {(one.better, one.worse): one for one in self.comparisons}
        return found[a, b], found[b, a]

    @property
    def downward(self) -> tuple[OrderedComparison, ...]:
        """For each pair the claim of the row that stands above; the other claim of a pair never holds."""
        place = {name: number for number, name in enumerate(self.order)}
        return tuple(one for one in self.comparisons if place[one.better] < place[one.worse])


def interval(forward: OrderedComparison, backward: OrderedComparison, confidence: float = 0.95) -> Interval:
    """Return the confidence interval of a difference by itself: what the claims of a pair, both ways, do not reject."""
    tail = (1 - confidence) / 2
    low, high = (float(student.isf(tail, one.df)) * one.error for one in (forward, backward))
    return Interval(forward.difference - low, forward.difference + high)


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
    outcomes = [rows[name] for name in complete]
    variation = Variation.of(outcomes)
    if pooled_df < POOLED_DF:
        return Ranking(complete, provisional, {}, (), pooled_df, variation)
    noise = _Noise.of(outcomes)
    tests = _Tests.of(outcomes, noise)
    adjusted = _adjust(tests.p)
    wins = adjusted < alpha
    comparisons = tuple(
        OrderedComparison(
            better,
            worse,
            float(tests.difference[b, a]),
            float(tests.error[b, a]),
            float(tests.df[b, a]),
            float(tests.p[b, a]),
            float(adjusted[b, a]),
            bool(wins[b, a]),
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
    return Ranking(complete, provisional, sets, comparisons, pooled_df, variation, noisy)


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
        own = np.array([seed_variance(row) for row in outcomes])
        pools = [pooled_variance(np.delete(own, row), np.delete(seeds, row) - 1) for row in range(len(outcomes))]
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
    error: Floats
    df: Floats
    p: Floats

    @classmethod
    def of(cls, outcomes: list[Correct], noise: _Noise) -> "_Tests":
        images, n, pool = outcomes[0].shape[1], noise.seeds, noise.pool
        apart, together = image_variances(outcomes)
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
        error: Floats = np.sqrt(variance)
        p: Floats = stdtr(df, -difference / error)
        return cls(difference, error, df, p)


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


def _check(rows: Mapping[str, Correct]) -> None:
    for name, correct in rows.items():
        if correct.dtype != np.bool_ or correct.ndim != 2 or not correct.size:
            raise StatisticsError(f"{name}: outcomes must be booleans of shape (seeds, images), not empty")
    sizes = {correct.shape[1] for correct in rows.values()}
    if len(sizes) > 1:
        raise StatisticsError(f"paired tests need the same test images, got sets of {sorted(sizes)} images")
    if sizes == {1}:
        raise StatisticsError("one image has no variance; rank on two or more")
