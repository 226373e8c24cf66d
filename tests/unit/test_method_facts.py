"""What planning and records know of every method."""

import pytest

from advbench.benchmark import discovery
from advbench.benchmark.method import Method
from advbench.benchmark.runs.perform import catalogue, identify


class TestFacts:
    @pytest.mark.parametrize("name", ["sglr", "trades_sglr"])
    @pytest.mark.parametrize(("epochs", "left"), [(12, "53%"), (20, "31%"), (30, "19%"), (200, "0%")])
    def test_notes_that_depend_on_the_protocol_are_computed(self, name, epochs, left):
        (note,) = identify(discovery.make(name), (epochs, 11 * epochs)).notes
        assert note == f"labels keep {left} of their one-hot start after {epochs} epochs"
        assert identify(discovery.make("pgd_at"), (epochs, 11 * epochs)).notes == ()

    def test_every_method_can_be_planned_and_identified(self):
        known = catalogue()
        assert set(known) == set(discovery.names())
        for name, facts in known.items():
            identity = identify(discovery.make(name))
            assert (identity.name, identity.hyperparameters) == (name, dict(facts.hyperparameters))
            assert identity.changed == {}
            assert len(identity.source_sha256) == 64
            assert facts.forwards is None or 2 < facts.forwards < 100
        assert known["pgd_at"].forwards == 23.0

    def test_what_is_changed_makes_a_row_of_its_own(self):
        identity = identify(discovery.make("trades", {"beta": 3.0}))
        assert identity.changed == {"beta": 3.0}
        assert identity.row == "TRADES (beta=3.0)"

    def test_an_update_of_its_own_is_shown(self):
        own = [name for name in discovery.names() if discovery.load(name).update is not Method.update]
        assert "trades_awp" in own
        assert {name for name in discovery.names() if identify(discovery.make(name)).overrides_update} == set(own)
