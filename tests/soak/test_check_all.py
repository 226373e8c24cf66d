"""`advbench check`, complete, on every method of the repository: nothing fails. About two minutes a method on one core.

Digits in full with the complete attacks; the store is shared, so baselines and teachers are trained once a worker.
What is suspicious is allowed and must be what the published board shows: a rank that is withheld.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.cli import main
from advbench.benchmark.records.flags import raised
from advbench.benchmark.records.schema import Record

pytestmark = pytest.mark.soak
PUBLISHED = Path(__file__).resolve().parents[2] / "leaderboards/records/digits-linf-1"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize("name", discovery.names())
def test_every_method_of_the_repository_is_green(name, store, tmp_path):
    report = tmp_path / "report.md"
    words = ["check", name, "--store", store, "--device", "cpu", "--jobs", "1", "--markdown", report]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert "✗" not in done.output
    assert "attacks on last" in done.output, "the run with the complete attacks is part of it"
    published = Record.load(PUBLISHED / name / "seed0.json").checkpoints
    known = {flag.name for one in published.values() for flag in raised(one.evaluation.flags)}
    found = {line.split()[3] for line in done.output.splitlines() if line.strip().startswith("! digits: flag")}
    assert found <= known, "a flag that the published record does not have"
