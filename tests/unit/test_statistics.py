"""Statistics against scipy, statsmodels and hand-made cases."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from advbench.benchmark.records.statistics import (
    StatisticsError,
    holm,
    mcnemar,
    natural_robust_ratio,
    summarize,
    wilson,
)


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


def test_different_test_sets_are_refused():
    with pytest.raises(StatisticsError, match="same test images"):
        mcnemar(np.zeros(3, bool), np.zeros(4, bool))
