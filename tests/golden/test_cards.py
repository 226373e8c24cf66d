"""The cards in docs/methods are what the adapters say today."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.cli import main

DOCS = Path(__file__).parents[2] / "docs" / "methods"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    result = CliRunner().invoke(main, ["methods", "write", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    return folder


@pytest.mark.parametrize("name", discovery.names())
def test_the_committed_card_is_current(name, written):
    expected = (written / f"{name}.md").read_text(encoding="utf-8")
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == expected, "run: advbench methods write docs/methods"


def test_the_overview_links_every_card_and_only_those():
    files = {path.stem for path in DOCS.glob("*.md")} - {"README"}
    assert files == set(discovery.names())
    overview = (DOCS / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.md)" in overview for name in files)


def test_a_card_shows_paper_hyper_parameters_differences_published_numbers_and_citation(written):
    card = (written / "trades.md").read_text(encoding="utf-8")
    for part in (
        "zhang2019theoretically",
        "`beta` | `6.0`",
        "27F",
        "release_bn",
        "84.92",
        "53.08",
        "not measured here",
    ):
        assert part in card
