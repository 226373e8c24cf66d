"""Every file of published numbers fits its schema, names a source, and belongs to a method."""

import re
from importlib import resources

import pytest

from advbench.benchmark import discovery
from advbench.leaderboards import published_numbers

FILES = sorted(
    entry.name.removesuffix(".toml")
    for entry in (resources.files("advbench.leaderboards") / "published").iterdir()
    if entry.name.endswith(".toml")
)


@pytest.mark.parametrize("method", FILES)
def test_a_file_belongs_to_a_method_and_every_number_to_a_source(method):
    assert method in discovery.names()
    results = published_numbers.load(method)
    assert results
    for result in results:
        assert re.match(r"https://|abstract of the paper, https://", result.source)
        assert any(value is not None for value in (result.clean, result.pgd20, result.other, result.autoattack))
        assert (result.other is None) == (result.attack == "")
        assert result.autoattack is None or result.clean is None or result.autoattack <= result.clean


def test_a_method_without_published_numbers_has_none():
    assert published_numbers.load("standard") == ()


def test_trades_as_its_repository_prints_it():
    first = published_numbers.load("trades")[0]
    assert (first.clean, first.pgd20, first.autoattack, first.eps) == (84.92, 56.61, 53.08, "0.031")
