"""What ranks on several data sets say of a new one."""

import random

import pytest

from advbench.benchmark.records.statistics import span
from advbench.leaderboards.site.new_data_set import LEAST, Level, predict


def levels(count: int) -> list[Level]:
    return [Level(f"set{place}", 10.0 * place, 10.0 * place + 20, place - 2.0) for place in range(count)]


def test_fewer_data_sets_than_an_interval_needs_give_none_however_many_boards():
    assert predict(levels(LEAST - 1)) == {}
    assert predict([level._replace(dataset="digits") for level in levels(12)]) == {}


def test_an_interval_spans_the_data_sets_after_their_boards_are_averaged():
    found = predict([*levels(LEAST), Level("set0", 20.0, 40.0, -6.0)])
    assert found == {"rank": "10 to 60 % of a board (67 %)", "lead": "−4.0 to +2.0 points (67 %)"}
    assert set(predict([level._replace(lead=None) for level in levels(LEAST)])) == {"rank"}


@pytest.mark.parametrize("count", [5, 9])
def test_the_span_holds_the_next_as_often_as_it_says(count):
    rng, held = random.Random(0), 0
    for _ in range(4000):
        *seen, new = (rng.lognormvariate(0, 1) for _ in range(count + 1))
        (low, high), chance = span(seen)
        held += low <= new <= high
    assert held / 4000 == pytest.approx(chance, abs=0.025)
