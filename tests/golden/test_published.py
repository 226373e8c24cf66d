"""What is published in this repository comes from its published records: tables, the demo and its plot."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark.cli import main
from advbench.benchmark.protocol import published
from advbench.benchmark.runs.suites import DEFAULT_METHODS
from advbench.leaderboards import board
from advbench.leaderboards.table import Table
from advbench.leaderboards.writers import markdown
from advbench.reports import findings, tradeoff
from advbench.reports.drawing.style import save

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "leaderboards" / "records"
BEGIN, END = "<!-- demo: begin -->\n", "<!-- demo: end -->\n"
PICTURE = "<!-- board: begin -->\n", "<!-- board: end -->\n"
SHOWN = ("rank", "method", "checkpoint", "clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "passes", "hours")


@pytest.fixture(scope="module")
def demo():
    """The board that `make demo` ends with."""
    records = board.load_records(RECORDS / "digits-linf-2")
    return board.build([record for record in records if record.method.name in DEFAULT_METHODS and record.seed == 0])


def test_committed_tables_are_what_their_records_say():
    words = ["leaderboard", "--records", str(RECORDS), "--out", str(ROOT / "leaderboards" / "tables"), "--check"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output


def test_a_table_that_was_edited_by_hand_is_found(tmp_path):
    words = ["leaderboard", "--records", str(RECORDS), "--protocol", "digits-linf/1", "--out", str(tmp_path)]
    assert CliRunner().invoke(main, words).exit_code == 0
    path = tmp_path / "digits-linf-1.md"
    path.write_text(path.read_text("utf-8").replace("65.0", "66.0", 1), "utf-8")
    result = CliRunner().invoke(main, [*words, "--check"])
    assert result.exit_code == 1
    assert "digits-linf-1.md" in result.output


def test_the_documentation_shows_the_demo_as_recorded(demo):
    page = ROOT / "docs" / "demo.md"
    text = page.read_text("utf-8")
    keys = {column.key for column in demo.columns}
    table = markdown.write(demo.select(columns=[key for key in SHOWN if key in keys]))
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    expected = f"{before}{BEGIN}\n{table}\n{END}{after}"
    if os.environ.get("ADVBENCH_UPDATE_GOLDEN"):
        page.write_text(expected, "utf-8")
        save(tradeoff.draw(demo), ROOT / "docs" / "figures" / "demo", ("png",))
        text = expected
    assert text == expected, "run: ADVBENCH_UPDATE_GOLDEN=1 pytest tests/golden/test_published.py"
    assert (ROOT / "docs" / "figures" / "demo.png").stat().st_size > 10_000


def picture(front: Table | None) -> str:
    """What README shows: the trade-off of the front board as soon as it has records, until then the demo's."""
    name, where, figure = "digits-linf-full/1", "this is the demo's", "docs/figures/demo.png"
    shown = "digits-linf/2"
    if front is not None:
        name = shown = front.protocol
        figure = f"leaderboards/tables/{front.protocol.replace('/', '-')}-tradeoff.png"
        where = "this is its plot"
    return (
        f"The board to quote is [{name}](leaderboards/tables/{name.replace('/', '-')}.md); {where}.\n\n"
        f"![Clean accuracy against AutoAttack on {shown}]({figure})\n"
    )


def test_the_readme_shows_the_board_of_real_images_as_soon_as_it_has_records(demo):
    boards = [board.build(several) for several in board.group(board.load_records(RECORDS)).values()]
    front = boards[0] if boards[0].protocol.startswith(f"{board.FRONT}/") else None
    page = ROOT / "README.md"
    text = page.read_text("utf-8")
    before, rest = text.split(PICTURE[0])
    _, after = rest.split(PICTURE[1])
    expected = f"{before}{PICTURE[0]}{picture(front)}{PICTURE[1]}{after}"
    if os.environ.get("ADVBENCH_UPDATE_GOLDEN"):
        page.write_text(expected, "utf-8")
        text = expected
    assert text == expected, "run: ADVBENCH_UPDATE_GOLDEN=1 pytest tests/golden/test_published.py"
    assert "cifar10-linf-lite-1-tradeoff.png" in picture(replace(demo, protocol="cifar10-linf-lite/1"))


def test_the_findings_are_what_the_records_say():
    page, expected = ROOT / "docs" / "findings.md", findings.write(board.load_records(RECORDS))
    if os.environ.get("ADVBENCH_UPDATE_GOLDEN"):
        page.write_text(expected, "utf-8")
    said = page.read_text("utf-8")
    assert said == expected, "run: advbench findings --records leaderboards/records --out docs/findings.md"


def test_every_robust_method_beats_standard_training_under_autoattack():
    records = [one for one in board.load_records(RECORDS) if one.protocol_digest == published()["digits-linf/1"].digest]
    best = {one.method.name: one.checkpoints["best"].evaluation.accuracy("autoattack") for one in records}
    floor = best.pop("standard")
    assert floor is not None
    assert len(best) >= 26
    assert all(accuracy is not None and accuracy > floor for accuracy in best.values()), best
    assert all(best[name] >= floor + 0.3 for name in ("pgd_at", "trades"))


def test_published_records_are_official_verified_and_from_committed_code():
    for record in board.load_records(RECORDS):
        assert record.official
        assert record.data.verified
        commit = record.training.environment.commit
        assert commit
        assert not commit.endswith("-dirty")


def test_the_example_on_cifar10_is_marked_as_the_subset_that_it_is():
    folder = ROOT / "docs" / "examples" / "cifar10-cpu"
    words = ["leaderboard", "--records", str(folder / "records"), "--out", str(folder), "--check"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    said = (folder / "cifar10-cpu-1.md").read_text(encoding="utf-8")
    assert said.startswith("### cifar10-cpu/1 (unofficial protocol, subset of the data, no ranks yet)")
    for record in board.load_records(folder / "records"):
        assert record.data.verified
        assert not record.official
        assert not (record.training.environment.commit or "-dirty").endswith("-dirty")


def test_every_kind_of_figure_is_drawn_from_published_records(tmp_path):
    words = ["plot", "all", "--records", str(RECORDS), "--protocol", "digits-linf/1", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, [*words, "--formats", "png"])
    assert result.exit_code == 0, result.output
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {
        f"digits-linf-1-{kind}.png"
        for kind in ("tradeoff", "overfitting", "curves", "cost", "classes", "attacks", "agreement")
    }
    assert "no figure of compare: compare draws two methods" in result.output
    assert "no figure of stability: rank stability needs two methods with two seeds" in result.output
    refused = CliRunner().invoke(main, [*words, "--formats", "gif"])
    assert refused.exit_code == 2
    assert "there are: pdf, png, svg" in refused.output
