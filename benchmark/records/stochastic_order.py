"""Almost stochastic order: does a method do better over its seeds as a whole, not only on average? Torch-free.

A row is almost stochastically larger than another if its quantile function of accuracies over seeds lies below the
other's on a small part of what separates the two (del Barrio, Cuesta-Albertos, Matrán, "An Optimal Transportation
Approach for Assessing Almost Stochastic Order", 2018; Dror, Shlomov, Reichart, ACL 2019). It describes beside rank
sets: it looks at seeds alone, the images being as they are, and holds no level with few (docs/statistics.md).
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
LEAST = 5
"""Seeds below which quantiles over seeds mean nothing."""
THRESHOLD = 0.2
"""Violation below which an order is almost stochastic (Ulmer, Hardmeier, Frellsen, 2022)."""


def stochastic_ranks(
    accuracies: Mapping[str, Sequence[float]], *, alpha: float, draws: int, seed: int
) -> dict[str, int]:
    """Return for each row 1 + the number of rows that are almost stochastically larger.

    Args:
        accuracies: of each row over its seeds, LEAST or more.
        alpha: level of the bounds of the violation, divided by the number of ordered pairs.
        draws: of the bootstrap over seeds.
        seed: of the bootstrap.
    """
    pairs = list(permutations(sorted(accuracies), 2))
    z = float(norm.isf(alpha / len(pairs))) if pairs else 0.0
    draw = np.random.default_rng(seed)
    drawn = {name: _resample(np.array(accuracies[name]), draws, draw) for name in sorted(accuracies)}
    lost = dict.fromkeys(accuracies, 0)
    for better, worse in pairs:
        found = violation(np.sort(accuracies[better])[None], np.sort(accuracies[worse])[None])[0]
        if found < THRESHOLD and found + z * float(violation(drawn[better], drawn[worse]).std()) < THRESHOLD:
            lost[worse] += 1
    return {name: 1 + count for name, count in lost.items()}


def violation(better: Floats, worse: Floats) -> Floats:
    """Return the share of the squared Wasserstein distance on which `better` lies below `worse`; 1/2 for no distance.

    Args:
        better: sorted accuracies (draws, seeds).
        worse: the same of the other row, as many draws.
    """
    n, m = better.shape[1], worse.shape[1]
    ends = np.unique(np.concatenate([np.arange(n + 1) / n, np.arange(m + 1) / m]).round(12))
    middle, width = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    difference = better[:, (middle * n).astype(int)] - worse[:, (middle * m).astype(int)]
    distance = (difference**2) @ width
    below = (np.minimum(difference, 0) ** 2) @ width
    shares: Floats = np.divide(below, distance, out=np.full(len(distance), 0.5), where=distance > 0)
    return shares


def _resample(values: Floats, draws: int, draw: np.random.Generator) -> Floats:
    chosen = draw.integers(0, len(values), size=(draws, len(values)))
    return np.sort(values[chosen], axis=1)
