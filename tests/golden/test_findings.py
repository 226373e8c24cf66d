"""Findings follow from records: what the prose may hold, what is said of missing rows, and its statistics."""

import re
from importlib import resources

import numpy as np
import pytest
from click.testing import CliRunner

from advbench.benchmark.cli import main
from advbench.benchmark.protocol import published
from advbench.benchmark.records.publish import publish
from advbench.leaderboards import published_numbers
from advbench.reports import findings

NAMES = re.compile(r"D2R|PGD-10|95 %|https?://\S+")
"""What may hold a digit in prose: methods, the confidence of intervals, addresses."""


def test_the_prose_holds_no_figure():
    text = (resources.files("advbench.reports") / "templates" / "findings.md.jinja").read_text("utf-8")
    prose = NAMES.sub("", re.sub(r"{{.*?}}|{%.*?%}|{#.*?#}", "", text, flags=re.DOTALL))
    assert "robust overfitting" in prose
    assert re.findall(r".*\d.*", prose) == []


def board(make_record, methods, *, seeds=(0, 1, 2), **given):
    return [make_record(name, seed=seed, **given) for name in methods for seed in seeds]


@pytest.fixture(scope="module")
def found(make_record):
    """A board with overfitting PGD-AT, three seeds each, and an ablation of DYNAT."""
    records = board(make_record, ("pgd_at", "trades", "sglr", "act", "dynat", "d2r"))
    records += board(
        make_record, ("dynat",), changed={"inner": "gt_ce"}, hyperparameters={"inner": "gt_ce"}, shift=0.15
    )
    return findings.BoardFindings(records)


def test_a_gap_that_is_closed_is_found(found):
    assert found.gap("pgd_at").verdict == "higher"
    assert found.gap("sglr", "pgd_at").verdict == "lower"
    assert found.gap("sglr", "pgd_at").text.startswith("−8.")
    assert found.gap("dynat", "dynat").verdict == "open"


def test_differences_are_those_of_the_board(found):
    above = found.compare("trades", "act")
    assert (above.verdict, above.networks, above.claimed) == ("higher", False, True)
    assert found.compare("act", "trades").verdict == "lower"
    assert found.compare("te", "trades") == findings.Difference("TE", "TRADES")


def test_an_ablation_is_a_row_of_its_own(found):
    assert found.variants("dynat") == ["dynat inner=gt_ce"]
    assert found.label("dynat inner=gt_ce") == "dynat (inner=gt\\_ce)"
    assert found.compare("dynat inner=gt_ce", "dynat").verdict == "higher"
    assert "above** dynat in AutoAttack" in findings.write(found.records)


def test_what_costs_no_more_is_named(found):
    rows = {name: found.row(name).cells for name in ("d2r", "trades")}
    named = found.no_dearer("d2r")
    cheaper = rows["trades"]["passes"].mean <= rows["d2r"]["passes"].mean
    assert ("TRADES" in named) == (cheaper and rows["trades"]["autoattack"].mean >= rows["d2r"]["autoattack"].mean)


def test_one_seed_speaks_of_networks_and_missing_rows_are_missing(make_record):
    page = findings.write(board(make_record, ("pgd_at", "sglr"), seeds=(0,)))
    assert "one network each" in page
    assert "SGLR against TE in AutoAttack: not measured here." in page
    assert "no row of DYNAT." in page
    assert "none: too few seeds" in page
    few = findings.BoardFindings([*board(make_record, ("pgd_at",), seeds=(0, 1)), make_record("sglr")])
    assert few.compare("sglr", "pgd_at").verdict == few.gap("sglr", "pgd_at").verdict == "untested"


def test_the_newest_official_version_is_shown(make_record):
    versions = ("digits-linf/1", "digits-linf/2", "cifar10-linf/1")
    records = [make_record("pgd_at", protocol=name, images=100) for name in versions]
    foreign = records[0].model_copy(update={"official": False, "protocol_digest": "0" * 64, "protocol_name": "mine/9"})
    tuned = [records[1].model_copy(update={"division": division}) for division in ("tuned", "open", "trial")]
    found = findings.newest([*records, foreign, *tuned])
    assert [len(several) for several in found] == [1, 1], "of the closed division alone"
    names = [several[0].protocol_name for several in found]
    assert names == ["cifar10-linf/1", "digits-linf/2"]


def test_the_command_writes_the_page_and_refuses_an_empty_folder(make_record, tmp_path):
    publish([make_record("pgd_at"), make_record("trades")], tmp_path / "records")
    words = ["findings", "--records", str(tmp_path / "records")]
    printed = CliRunner().invoke(main, words)
    assert printed.exit_code == 0
    assert CliRunner().invoke(main, [*words, "--out", str(tmp_path / "new" / "page.md")]).exit_code == 0
    assert (tmp_path / "new" / "page.md").read_text("utf-8") == printed.output
    (tmp_path / "empty").mkdir()
    refused = CliRunner().invoke(main, ["findings", "--records", str(tmp_path / "empty")])
    assert refused.exit_code == 2
    assert "no records" in refused.output


def test_no_record_makes_a_page_that_says_so():
    assert "No board has a record yet." in findings.write([])


def test_published_figures_are_those_of_the_data_the_radius_and_an_18_layer_network(make_record):
    names = ("pgd_at", "trades", "sglr", "hat", "mart")
    one = findings.BoardFindings(board(make_record, names, seeds=(0,), protocol="cifar10-linf-short/1", images=500))
    found = one.agreement()
    assert {row.label for row in found.rows} == {"PGD-AT", "TRADES", "SGLR", "hat"}, "no such figure of MART is known"
    assert {row.checkpoint for row in found.rows if row.theirs.checkpoint == "final"} == {"last"}
    assert all(row.theirs.autoattack and row.theirs.eps == "8/255" for row in found.rows)
    assert found.p is not None
    digits = findings.BoardFindings(board(make_record, names, seeds=(0,)))
    assert digits.agreement() == findings.PublishedOrder(())
    assert published_numbers.same_threat(found.rows[0].theirs, published()["cifar10-linf/2"])


@pytest.mark.parametrize(
    ("b", "rho", "p"),
    [
        ([1, 2, 3, 4, 5], 1.0, 2 / 120),
        ([5, 4, 3, 2, 1], -1.0, 2 / 120),
        ([2, 1, 4, 3, 5], 0.8, 16 / 120),
    ],
)
def test_spearman_over_every_order(b, rho, p):
    assert findings.spearman([10, 20, 30, 40, 50], b) == (pytest.approx(rho), pytest.approx(p))


def test_spearman_needs_three_values_that_differ_and_repeats_its_draws():
    assert findings.spearman([1, 2], [1, 2]) == findings.spearman([1, 2, 3], [1, 1, 1]) == (None, None)
    values = list(range(12))
    assert findings.spearman(values, values) == (pytest.approx(1.0), pytest.approx(0.0))


def test_a_mean_difference_covers_no_difference_as_often_as_it_says():
    """400 boards of two rows, three seeds, 200 images, with noise over seeds and over images."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        rows = [
            rng.random((3, 200)) < np.clip(0.1 + 0.1 * rng.standard_normal((3, 1)) + 0.1 * rng.random(200), 0, 1)
            for _ in range(2)
        ]
        low, high = findings.mean_difference([row.astype(float) for row in rows], seeds=3).interval
        held += low <= 0 <= high
    assert held >= 0.93 * 400
