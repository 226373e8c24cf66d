"""Statistics against scipy, statsmodels and hand-made cases."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from advbench.benchmark.records.statistics import (
    StatisticsError,
    bootstrap,
    compare,
    holm,
    mcnemar,
    natural_robust_ratio,
    ranks,
    summarize,
    wilson,
)


def outcomes(right: int, n: int = 500) -> np.ndarray:
    """The first `right` images are correct."""
    return (np.arange(n) < right)[None, :]


def noisy(share: float, seeds: int, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, n)) < share


def test_mean_and_sample_deviation():
    assert summarize([1.0, 2.0, 4.0]) == (7 / 3, pytest.approx(math.sqrt(7 / 3)), 3)
    assert summarize([0.5]) == (0.5, None, 1)
    with pytest.raises(StatisticsError, match="missing, not zero"):
        summarize([])
    with pytest.raises(StatisticsError, match="not finite"):
        summarize([1.0, math.nan])


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (49, 100), (1, 360), (5000, 10000)])
def test_wilson_equals_scipy_and_statsmodels(k, n):
    interval = wilson(k, n)
    assert interval == pytest.approx(tuple(binomtest(k, n).proportion_ci(method="wilson")), abs=1e-12)
    proportion_confint = pytest.importorskip("statsmodels.stats.proportion").proportion_confint
    assert interval == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    assert 0 <= interval.low <= k / n <= interval.high <= 1


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(k, n):
    with pytest.raises(StatisticsError, match="0 <= successes <= n"):
        wilson(k, n)


def test_nrr_is_the_harmonic_mean_and_zero_at_zero():
    assert natural_robust_ratio(0.8, 0.4) == pytest.approx(2 / (1 / 0.8 + 1 / 0.4))
    assert natural_robust_ratio(0.0, 0.0) == 0.0
    assert natural_robust_ratio(0.9, 0.0) == 0.0


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 0), (3, 9), (40, 21), (7, 7)])
def test_mcnemar_equals_the_binomial_test(only_a, only_b):
    a = np.array([True] * only_a + [False] * only_b + [True] * 30 + [False] * 9)
    b = np.array([False] * only_a + [True] * only_b + [True] * 30 + [False] * 9)
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-12)
    assert mcnemar(b, a) == mcnemar(a, b)
    table = [[30, only_a], [only_b, 9]]
    reference = pytest.importorskip("statsmodels.stats.contingency_tables").mcnemar
    if only_a + only_b:
        assert mcnemar(a, b) == pytest.approx(reference(table, exact=True).pvalue, rel=1e-9)


def test_holm_equals_statsmodels_and_is_monotone():
    p_values = [0.04, 0.001, 0.03, 0.2, 0.001, 1.0]
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([]) == []


def test_p_is_the_largest_over_all_pairings():
    a = np.concatenate([outcomes(300), outcomes(260)])
    b = np.concatenate([outcomes(200), outcomes(250)])
    (found,) = compare({"a": a, "b": b}, alpha=0.05, draws=500, seed=0)
    pairings = [mcnemar(one, other) for one in a for other in b]
    assert found.p == max(pairings) == mcnemar(a[1], b[1])
    assert found.difference == pytest.approx((300 + 260 - 200 - 250) / 2 / 500)


def test_bootstrap_shares_images_and_draws_seeds_apart():
    """Identical seeds: the difference of two rows is free of image noise only if the images are shared."""
    base = noisy(0.5, 1, 400, 1)
    a, b = np.repeat(base, 3, axis=0), np.repeat(base, 3, axis=0)
    drawn = bootstrap({"a": a, "b": b}, draws=300, seed=0)
    assert np.array_equal(drawn["a"], drawn["b"])
    assert drawn["a"].std() == pytest.approx(math.sqrt(0.25 / 400), rel=0.15)
    # Seeds that differ spread the row beyond its images, by an own draw of seeds for each row.
    spread = np.concatenate([outcomes(100), outcomes(300)])
    drawn = bootstrap({"a": spread, "b": spread}, draws=2000, seed=0)
    correlation = np.corrcoef(drawn["a"], drawn["b"])[0, 1]
    assert abs(correlation) < 0.2
    assert drawn["a"].std() == pytest.approx(0.2 / math.sqrt(2), rel=0.1)


def test_a_pair_does_not_depend_on_the_other_rows():
    rows = {"a": noisy(0.6, 3, 300, 1), "b": noisy(0.5, 3, 300, 2)}
    alone = compare(rows, alpha=0.05, draws=400, seed=3)[0]
    crowd = compare({"c": noisy(0.2, 2, 300, 3), **rows}, alpha=0.05, draws=400, seed=3)
    same = next(one for one in crowd if (one.a, one.b) == ("a", "b"))
    assert (same.p, same.interval, same.difference) == (alone.p, alone.interval, alone.difference)
    assert same.adjusted >= same.p


def test_a_clear_winner_wins_and_ranks_count_the_rows_that_win():
    rows = {"strong": outcomes(300), "weak": outcomes(200), "weaker": outcomes(100)}
    rows = {name: np.repeat(row, 3, axis=0) for name, row in rows.items()}
    comparisons = compare(rows, alpha=0.05, draws=500, seed=0)
    assert [one.winner for one in comparisons] == ["strong", "strong", "weak"]
    assert ranks(list(rows), comparisons) == {"strong": 1, "weak": 2, "weaker": 3}


def test_ties_are_never_chained():
    """A ~ B and B ~ C, yet A beats C: A and B share rank 1, C has 2."""
    rows = {"a": outcomes(300, 400), "b": outcomes(296, 400), "c": outcomes(292, 400)}
    comparisons = compare(rows, alpha=0.05, draws=200, seed=0)
    assert {(one.a, one.b): one.winner for one in comparisons} == {("a", "b"): None, ("a", "c"): "a", ("b", "c"): None}
    assert ranks(list(rows), comparisons) == {"a": 1, "b": 1, "c": 2}


def test_one_contrary_seed_ties():
    """All but one pairing favour a: the sign is not the same everywhere."""
    a = np.concatenate([outcomes(300), outcomes(300), outcomes(150)])
    b = np.concatenate([outcomes(200), outcomes(200), outcomes(200)])
    (found,) = compare({"a": a, "b": b}, alpha=0.05, draws=500, seed=0)
    assert not found.same_sign
    assert found.winner is None


def test_significant_pairings_still_need_the_bootstrap():
    """Seeds far apart: every pairing is significant, but an interval over seeds and few images may hold 0."""
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 60)) < 0.55, rng.random((3, 60)) < 0.45
    (found,) = compare({"a": a, "b": b}, alpha=1.01, draws=2000, seed=0)
    low, high = found.interval
    assert low <= 0 <= high
    assert found.winner is None


def test_single_seeds_are_marked_and_need_no_interval():
    (found,) = compare({"a": outcomes(300), "b": outcomes(200)}, alpha=0.05, draws=100, seed=0)
    assert found.single
    assert found.winner == "a"


def test_different_test_sets_are_refused():
    with pytest.raises(StatisticsError, match="same test images"):
        compare({"a": outcomes(3, 10), "b": outcomes(3, 20)}, alpha=0.05, draws=10, seed=0)
    with pytest.raises(StatisticsError, match="same test images"):
        mcnemar(np.zeros(3, bool), np.zeros(4, bool))
    with pytest.raises(StatisticsError, match="booleans"):
        compare({"a": np.zeros((1, 3)), "b": np.zeros((1, 3))}, alpha=0.05, draws=10, seed=0)  # type: ignore[dict-item]


def test_one_row_and_no_row():
    assert compare({"a": outcomes(3)}, alpha=0.05, draws=10, seed=0) == ()
    assert ranks(["a"], ()) == {"a": 1}
    assert compare({}, alpha=0.05, draws=10, seed=0) == ()
