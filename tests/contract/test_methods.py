"""The contract of every method file: found by discovery, so a new defense is held to it without being named here.

The checks are those of `advbench check`.
"""

import pytest

from advbench.benchmark import discovery
from advbench.benchmark.review.adapter import card_rules, contract, short_runs, source_rules

METHODS = discovery.names()
every_method = pytest.mark.parametrize("name", METHODS)


@every_method
@pytest.mark.parametrize("check", contract.CHECKS)
def test_the_contract_holds(name, check):
    contract.CHECKS[check](discovery.make(name))


@every_method
def test_the_card_is_complete_and_costs_what_it_says(name):
    method = discovery.make(name)
    card_rules.complete(method)
    card_rules.costs_what_it_says(method)


@every_method
def test_the_source_breaks_no_rule_and_is_thin(name):
    file = discovery.source_file(discovery.load(name))
    source = file.read_bytes()
    assert source_rules.examine(source, file.name) == ()
    assert name in source_rules.method_names(source)
    card_rules.thin(file)


@every_method
def test_same_seed_same_weights_and_resume_is_bit_identical(name, tmp_path):
    """Killed after one and after three of four epochs (averages, memories and ramps are on by then)."""
    method = discovery.make(name)
    short_runs.resumes_to_the_bit(method, tmp_path)
    short_runs.seeds_differ(method, tmp_path)


@every_method
def test_one_batch_is_learnt_by_heart(name):
    short_runs.overfits_one_batch(discovery.make(name))
