"""Almost stochastic order against quantile functions integrated on a fine grid, and on normal accuracies."""

import numpy as np
import pytest

from advbench.benchmark.records.stochastic_order import stochastic_ranks, violation


@pytest.mark.parametrize(("n", "m"), [(5, 5), (5, 8), (12, 7)])
def test_violation_is_the_integral_over_quantiles(n, m):
    draws = np.random.default_rng(n * m)
    a, b = np.sort(draws.random(n)), np.sort(0.1 + draws.random(m))
    levels = (np.arange(200_000) + 0.5) / 200_000
    difference = a[(levels * n).astype(int)] - b[(levels * m).astype(int)]
    expected = (np.minimum(difference, 0) ** 2).sum() / (difference**2).sum()
    assert violation(a[None], b[None])[0] == pytest.approx(expected, abs=1e-4)
    assert violation(b[None], a[None])[0] == pytest.approx(1 - expected, abs=1e-4)
    assert violation(a[None], a[None])[0] == 0.5


def ranks(**rows):
    return stochastic_ranks(rows, alpha=0.05, draws=500, seed=0)


def test_a_clear_order_is_found_and_equal_rows_share_their_rank():
    low, high = [0.50, 0.51, 0.49, 0.52, 0.50], [0.70, 0.69, 0.71, 0.70, 0.72]
    assert ranks(low=low, high=high, same=[value + 1e-4 for value in high[::-1]])["low"] == 3
    assert ranks(low=low, twin=list(low)) == {"low": 1, "twin": 1}
    assert ranks(only=low) == {"only": 1}


def test_a_noisy_row_of_a_higher_mean_is_not_larger_over_its_seeds():
    """Its bad seeds lie below everything: on average 2 points better, and not in order."""
    assert ranks(quiet=[0.60, 0.61, 0.59, 0.60, 0.60], noisy=[0.42, 0.55, 0.62, 0.72, 0.79]) == {"quiet": 1, "noisy": 1}


def test_normal_rows_of_one_mean_are_seldom_ordered():
    draws = np.random.default_rng(0)
    found = [ranks(a=draws.normal(0.7, 0.01, 8).tolist(), b=draws.normal(0.7, 0.01, 8).tolist()) for _ in range(100)]
    assert sum(set(one.values()) != {1} for one in found) <= 10
