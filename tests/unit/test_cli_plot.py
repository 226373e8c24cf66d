"""`advbench plot` on the command line: kinds, results, and what it refuses."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark.cli import main
from advbench.benchmark.cli.plot import DRAWN, FIGURES, OF_RESULTS, FigureRequest, plot
from advbench.benchmark.records.schema import Record
from advbench.leaderboards import board
from advbench.reports.drawing.style import FigureLayout, ReportError, figure
from advbench.reports.results import KINDS
from advbench.reports.row_outcomes import on_board

RECORDS = Path(__file__).parents[2] / "leaderboards" / "records" / "digits-linf-1"
FEW = ("--records", str(RECORDS), "--formats", "png")


def run(*words: object) -> list[str]:
    """Draw; return the names of the files."""
    result = CliRunner().invoke(main, ["plot", *map(str, words)])
    assert result.exit_code == 0, result.output
    return [Path(line.removeprefix("wrote ")).name for line in result.stdout.splitlines()]


def refusal(*words: object) -> str:
    """Run with bad input: exit code 2, one line on stderr, which is returned."""
    result = CliRunner().invoke(main, ["plot", *map(str, words)])
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1]


@pytest.fixture
def sweep(tmp_path):
    columns = [
        {name: {"accuracy": share, "interval": [0.1, 0.9]} for name in ("clean", "pgd20")} for share in (0.8, 0.3)
    ]
    threats = [
        {"norm": "linf", "eps": eps, "columns": found} for eps, found in zip(("0.05", "0.1"), columns, strict=True)
    ]
    path = tmp_path / "sweep.json"
    made = {"kind": "evaluation off the board", "network": {"reference": "net"}, "images": 50, "threats": threats}
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


@pytest.fixture
def transferred(tmp_path):
    path = tmp_path / "board-transfer.json"
    made = {"kind": "transfer", "names": ["a", "b"], "clean": [0.9, 0.8], "accuracy": [[0.5, 0.6], [0.7, 0.4]]}
    path.write_text(json.dumps({**made, "images": 100}), encoding="utf-8")
    return path


def test_the_help_names_every_kind_once():
    said = plot.help or ""
    for kind, about in {**FIGURES, **OF_RESULTS}.items():
        (line,) = [line for line in said.splitlines() if line.split()[:1] == [kind]]
        assert line.split(maxsplit=1)[1] == about
    assert set(DRAWN) == set(KINDS)
    assert {kind for kinds in DRAWN.values() for kind in kinds} == set(OF_RESULTS)


@pytest.mark.parametrize("kind", ["classes", "compare", "attacks", "agreement"])
def test_methods_and_columns_are_chosen(kind, tmp_path):
    words = (*FEW, "--methods", "trades,PGD-AT", "--column", "pgd20", "--width", "single", "--out", tmp_path)
    column = "" if kind == "attacks" else "-pgd20"
    assert run(kind, *words) == [f"digits-linf-1-{kind}-trades-PGD-AT{column}-single.png"]


def test_figures_that_differ_do_not_share_a_file():
    usual = FigureRequest(
        None, "autoattack", "best", "passes", Path("f"), "paper", "auto", ("png",), None, "DejaVu Sans", None
    )
    others = [
        replace(usual, **{option: value})
        for option, value in (("against", "hours"), ("column", "cw"), ("style", "slides"), ("methods", ("trades", "b")))
    ]
    assert usual.file("digits-linf/1", "cost") == Path("f/digits-linf-1-cost")
    assert len({request.file("digits-linf/1", "cost") for request in (usual, *others)}) == 5
    assert replace(usual, checkpoint="last").file("p", "cost") == usual.file("p", "cost"), "costs are those of best"
    many = tuple(f"method{number}" for number in range(30))
    first, second = (replace(usual, methods=names).file("p", "attacks") for names in (many, many[1:]))
    assert first != second
    assert len(first.name) <= 80


def test_what_is_too_much_for_a_page_is_cut_and_said(monkeypatch, tmp_path):
    monkeypatch.setattr("advbench.benchmark.cli.plot.ROWS", 3)
    result = CliRunner().invoke(main, ["plot", "attacks", *FEW, "--out", str(tmp_path)])
    assert re.search(r"the first 3 of \d\d methods are drawn", result.stderr)
    assert run("attacks", *FEW, "--out", tmp_path, "--top", 2) == ["digits-linf-1-attacks-top2.png"]


def test_fonts_are_those_that_are_installed():
    with pytest.raises(ReportError, match="no font 'DejaVu Sarif' is installed; near it: DejaVu Serif"):
        FigureLayout(font="DejaVu Sarif")
    with figure(2, 1, FigureLayout(font="DejaVu Serif")) as made:
        text = made.add_subplot().set_title("x")
    assert text.get_fontname() == "DejaVu Serif"


def test_results_are_drawn_by_what_they_are(sweep, transferred, tmp_path):
    words = ("--formats", "png", "--out", tmp_path / "figures")
    assert run("eps", sweep, *words) == ["sweep-eps.png"]
    assert run("transfer", transferred, *words) == ["board-transfer.png"]
    assert run("eps", sweep, sweep, *words, "--style", "slides") == ["sweep-eps-slides.png"]
    drawn = run("all", sweep, transferred, *FEW, "--methods", "trades,mart,hat", "--out", tmp_path / "all")
    kinds = ("tradeoff", "overfitting", "curves", "cost", "classes", "attacks", "agreement")
    assert drawn == [
        *(f"digits-linf-1-{kind}-trades-mart-hat.png" for kind in kinds),
        "sweep-eps.png",
        "board-transfer.png",
    ]


def test_outcomes_go_under_the_names_that_the_board_gives_their_rows():
    records = [record for record in board.load_records(RECORDS) if record.method.name in {"trades", "dynat_awp"}]
    plain = {record.method.name: json.loads(record.dumps()) for record in records}
    flags = plain["dynat_awp"]["checkpoints"]["best"]["evaluation"]["flags"]
    next(flag for flag in flags if flag["name"] == "zero-gradients")["state"] = "raised"
    records = [Record.model_validate_json(json.dumps(one)) for one in plain.values()]
    assert sorted(on_board(board.build(records), records, "best")) == ["DYNAT-AWP †", "TRADES"]


def test_one_method_is_enough_for_most_kinds(tmp_path):
    words = (*FEW, "--methods", "trades", "--out", tmp_path)
    for kind in ("tradeoff", "overfitting", "curves", "cost", "classes", "attacks"):
        assert run(kind, *words) == [f"digits-linf-1-{kind}-trades.png"]
    assert "needs two networks" in refusal("agreement", *words)
    assert "compare draws two methods" in refusal("compare", *words)


def test_bad_input_is_refused_in_one_line(sweep, tmp_path):
    assert "is not one of" in refusal("poster", *FEW)
    assert "needs result files" in refusal("eps", *FEW)
    assert "is drawn from records" in refusal("tradeoff", sweep)
    assert "plot eps" in refusal("transfer", sweep)
    assert "cannot be read" in refusal("eps", tmp_path / "none.json")
    assert "no method 'nope'" in refusal("cost", *FEW, "--methods", "nope")
    assert "the gap is defined for" in refusal("overfitting", *FEW, "--column", "cw", "--out", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no records" in refusal("all", "--records", tmp_path / "empty")


def test_a_column_that_was_not_measured_is_named(tmp_path):
    plain = json.loads(next((RECORDS / "trades").glob("*.json")).read_text("utf-8"))
    del plain["checkpoints"]["best"]["evaluation"]["columns"]["autoattack"]
    (tmp_path / "one.json").write_text(json.dumps(plain), encoding="utf-8")
    words = ("--records", tmp_path, "--formats", "png", "--out", tmp_path)
    assert "both clean and autoattack" in refusal("tradeoff", *words)
    assert "no record has autoattack on best" in refusal("classes", *words)


def test_other_data_give_no_classes(tmp_path):
    plain = json.loads(next((RECORDS / "trades").glob("*.json")).read_text("utf-8"))
    plain["data"]["digest"] = "0" * 64
    (tmp_path / "one.json").write_text(json.dumps(plain), encoding="utf-8")
    result = CliRunner().invoke(main, ["plot", "classes", "--records", str(tmp_path), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "other data than those of the records" in result.stderr


def test_neither_plot_nor_compare_nor_images_loads_torch(tmp_path):
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from advbench.benchmark.cli import main\n"
        f"records = ['--records', {str(RECORDS)!r}]\n"
        "for words in (['compare', 'trades', 'mart'], ['images'],\n"
        f"    ['plot', 'classes', '--formats', 'png', '--methods', 'trades,mart', '--out', {str(tmp_path)!r}]):\n"
        "    result = CliRunner().invoke(main, [*words, *records])\n"
        "    assert result.exit_code == 0, result.output\n"
        "    assert 'no classes shown' not in result.stderr\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
