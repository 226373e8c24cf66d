"""What the ranks and levels of a method on the data sets so far say of one that it was not measured on."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from advbench.benchmark.records.statistics import span

LEAST = 5
"""Data sets that an interval needs: the span of five holds the next value with a chance of 4/6, that of four or fewer
with hardly more than one half, which predicts nothing. Nine give 80 %, nineteen 90 %."""


class Level(NamedTuple):
    """Where a method stands on one board: the ends of its rank set in percent of the board, and its lead.

    `lead` is AutoAttack minus that of PGD-AT in points; None without such a row.
    """

    dataset: str
    low: float
    high: float
    lead: float | None


def predict(levels: Sequence[Level]) -> dict[str, str]:
    """Return intervals for a new data set as text, "rank" and "lead"; none from fewer than `LEAST` data sets.

    Boards of one data set are not independent, so they are averaged first. The data sets, the new one included, are
    taken as exchangeable; nothing is assumed of the distribution.
    """
    by_set: dict[str, list[Level]] = {}
    for level in levels:
        by_set.setdefault(level.dataset, []).append(level)
    if len(by_set) < LEAST:
        return {}
    lows, highs = ([fmean(getattr(one, end) for one in each) for each in by_set.values()] for end in ("low", "high"))
    chance = span(highs)[1]
    found = {"rank": f"{min(lows):.0f} to {max(highs):.0f} % of a board ({100 * chance:.0f} %)"}
    leads = [fmean(own) for each in by_set.values() if (own := [one.lead for one in each if one.lead is not None])]
    if len(leads) >= LEAST:
        (low, high), chance = span(leads)
        found["lead"] = f"{low:+.1f} to {high:+.1f} points ({100 * chance:.0f} %)".replace("-", "−")
    return found
