"""The rule of ranking that version 1 of the boards had, kept for the simulation that shows what was wrong with it.

A row beats another if exact McNemar tests over all pairings of their seeds agree (largest p, Holm over all pairs of the
board), and with several seeds a hierarchical bootstrap over seeds and images too.
"""

import hashlib
from itertools import combinations

import numpy as np
from scipy.special import bdtr

from advbench.benchmark.records.statistics import holm


def winners(rows: dict[str, np.ndarray], *, alpha: float, draws: int, seed: int) -> list[tuple[str, str]]:
    """Return the pairs (winner, loser) among rows of outcomes (seeds, images)."""
    pairs = list(combinations(rows, 2))
    adjusted = holm([_largest_p(rows[a], rows[b]) for a, b in pairs])
    sampled = _bootstrap(rows, draws, seed)
    found = []
    for (a, b), p in zip(pairs, adjusted, strict=True):
        signs = np.sign(rows[a].sum(axis=1)[:, None] - rows[b].sum(axis=1)[None, :])
        low, high = np.quantile(sampled[a] - sampled[b], [0.025, 0.975])
        single = min(len(rows[a]), len(rows[b])) == 1
        if p < alpha and abs(signs.sum()) == signs.size and (single or low > 0 or high < 0):
            found.append((a, b) if signs[0, 0] > 0 else (b, a))
    return found


def _largest_p(a: np.ndarray, b: np.ndarray) -> float:
    first, second = a.astype(np.float64), b.astype(np.float64)
    only_a, only_b = np.rint(first @ (1 - second).T), np.rint((1 - first) @ second.T)
    tail = bdtr(np.minimum(only_a, only_b), (only_a + only_b).astype(np.int64), 0.5)
    return float(np.minimum(1.0, 2 * tail).max())


def _bootstrap(rows: dict[str, np.ndarray], draws: int, seed: int) -> dict[str, np.ndarray]:
    """Draw accuracies (draws,) of each row: one sample of images for all rows, one of its own seeds for each."""
    stacked = np.concatenate([row.T for row in rows.values()], axis=1).astype(np.float32)
    images = len(stacked)
    indices = np.random.default_rng(seed).integers(0, images, size=(draws, images))
    counts = np.bincount((indices + np.arange(draws)[:, None] * images).ravel(), minlength=draws * images)
    shares = ((counts.reshape(draws, images).astype(np.float32) @ stacked) / images).astype(np.float64)
    found, column = {}, 0
    for name, row in rows.items():
        own = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
        chosen = own.integers(0, len(row), size=(draws, len(row)))
        found[name] = np.take_along_axis(shares[:, column : column + len(row)], chosen, axis=1).mean(axis=1)
        column += len(row)
    return found
