"""New methods, checks and reports; methods that live outside the repository."""

import types
from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.cli import main
from advbench.benchmark.records.flags import ABOUT
from advbench.benchmark.records.schema import Flag, Record
from advbench.benchmark.review.adapter import baseline_bands, card_rules, linters, scaffold, source_rules, suite
from advbench.benchmark.review.finding import CheckError, Finding, Report, markdown

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [scaffold.Shape(*one) for one in ((1, False, False), (1, True, True), (2, False, True), (2, True, False))]


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    monkeypatch.setenv(discovery.VARIABLE, "")


def advbench(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_new_method_writes_passes_everything_but_its_unfilled_card(shape, tmp_path):
    name = f"fresh_{shape.networks}{'t' * shape.teacher}{'m' * shape.memory}"
    (path,) = scaffold.write(name, shape, tmp_path)
    (found,) = suite.examine(suite.locate(str(path)), tooling=False)
    assert [finding.rule for finding in found.failed] == ["complete card"]
    assert "is not filled in" in found.failed[0].message
    linters.style(path)
    assert source_rules.method_names(path.read_bytes()) == (name,)


def test_new_method_in_a_checkout_writes_the_oracle_test_and_overwrites_nothing(tmp_path):
    (tmp_path / "methods").mkdir()
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark/method.py").touch()
    output = advbench("new-method", "soft_margin", "--networks", "2", "--out", tmp_path)
    assert "test_soft_margin.py" in output
    test = (tmp_path / "tests/oracle/test_soft_margin.py").read_text(encoding="utf-8")
    assert "from advbench.methods.soft_margin import SoftMargin" in test
    assert "pytest.fail(" in test
    compile(test, "test", "exec")
    assert "exists already" in advbench("new-method", "soft_margin", "--out", tmp_path, code=2)
    assert "cannot name a method" in advbench("new-method", "Soft-Margin", "--out", tmp_path, code=2)


def test_check_reports_in_the_terminal_and_as_markdown(tmp_path):
    (path,) = scaffold.write("unfilled", scaffold.Shape(), tmp_path)
    output = advbench("check", path, "--quick", "--markdown", tmp_path / "report.md", code=1)
    assert "failed: complete card: card.title is not filled in" in output
    assert "→ write it from the paper" in output
    assert "error: unfilled: not yet" in output
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Unofficial: the method lies outside the repository." in text
    assert "- **complete card** (failed): card.title is not filled in\n  - write it from the paper" in text


def test_check_finds_methods_by_name_and_lists_them_otherwise():
    assert suite.locate("trades_sglr").file.name == "sglr.py"
    assert suite.locate("trades_sglr").name == "trades_sglr"
    assert "no method 'nosuch'; there are: " in advbench("check", "nosuch", "--quick", code=2)
    assert "no such file" in advbench("check", "nosuch.py", "--quick", code=2)


def outside(folder: Path, name: str) -> Path:
    text = Path(discovery.source_file(discovery.load("trades"))).read_text(encoding="utf-8")
    path = folder / f"{name}.py"
    path.write_text(text.replace('name="trades"', f'name="{name}"'), encoding="utf-8")
    return path


def test_a_method_outside_is_known_after_method_and_marked(tmp_path):
    path = outside(tmp_path, "elsewhere")
    assert "elsewhere" not in discovery.names()
    output = advbench("run-all", "--method", path, "--methods", "elsewhere", "--dry-run", "--store", tmp_path / "runs")
    assert "digits-linf/2 elsewhere seed 0" in output
    assert discovery.OUTSIDE in discovery.load("elsewhere").card.notes
    assert discovery.OUTSIDE not in discovery.load("trades").card.notes


def test_bad_files_outside_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(discovery.MethodError, match="no such Python file"):
        discovery.adopt(tmp_path / "missing.py")
    for text, output in (("1 / 0", "cannot be imported"), ("x = 1", "defines no method")):
        path = tmp_path / f"bad{len(text)}.py"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv(discovery.VARIABLE, str(path))
        with pytest.raises(discovery.MethodError, match=output):
            discovery.names()
    monkeypatch.setenv(discovery.VARIABLE, "")
    twin = outside(tmp_path, "pgd_at")
    monkeypatch.setenv(discovery.VARIABLE, str(twin))
    with pytest.raises(discovery.MethodError, match="two methods are named 'pgd_at'"):
        discovery.names()


def test_entry_points_are_found_and_marked(tmp_path, monkeypatch):
    outside(tmp_path, "packaged")
    monkeypatch.syspath_prepend(tmp_path)
    entry = types.SimpleNamespace(name="packaged", value="packaged")
    monkeypatch.setattr(discovery.importlib.metadata, "entry_points", lambda group: [entry])
    monkeypatch.setenv(discovery.VARIABLE, str(outside(tmp_path, "other_one")))  # another key of the cache
    assert discovery.OUTSIDE in discovery.load("packaged").card.notes


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"url": "http://x"}, "card.url"),
        ({"family": "magic"}, "card.family"),
        ({"forwards": ()}, "card.cost"),
        ({"year": 1999}, "card.year"),
        ({"key": "Zhang"}, "card.key"),
    ],
)
def test_an_incomplete_card_names_the_field(change, output, monkeypatch):
    import dataclasses

    kind = discovery.load("trades")
    monkeypatch.setattr(kind, "card", dataclasses.replace(kind.card, **change))
    with pytest.raises(CheckError, match=output):
        card_rules.complete(kind())


def test_a_wrong_cost_says_what_is_measured(monkeypatch):
    import dataclasses

    kind = discovery.load("pgd_at")
    monkeypatch.setattr(kind, "card", dataclasses.replace(kind.card, forwards=27))
    with pytest.raises(CheckError, match="measured 23F; write forwards=23"):
        card_rules.costs_what_it_says(kind())


def test_style_and_types_of_a_file_outside(tmp_path):
    path = outside(tmp_path, "styled")
    linters.style(path)
    path.write_text(
        path.read_text(encoding="utf-8").replace("from torch import Tensor", "from torch import Tensor, nn")
    )
    with pytest.raises(CheckError, match="ruff: "):
        linters.style(path)


def test_baselines_outside_their_bands_break_the_check():
    (finding,) = baseline_bands.judge_baselines([], "mine", official=False)
    assert finding.level == "note"
    assert list(baseline_bands.baselines("digits-linf/2", official=True)) == ["pgd_at", "trades"]
    assert {one.level for one in baseline_bands.judge_baselines([], "digits-linf/2", official=True)} == {"failed"}
    column = types.SimpleNamespace
    for autoattack, level in ((0.6, "ok"), (0.2, "failed"), (0.99, "failed"), (None, "failed")):
        values = {"clean": 0.95, "autoattack": autoattack}
        evaluation = column(accuracy=values.get)
        record = column(method=column(name="pgd_at", changed={}), checkpoints={"best": column(evaluation=evaluation)})
        first = baseline_bands.judge_baselines([record], "digits-linf/2", official=True)[0]
        assert first.level == level
        assert ("the set-up is broken" in first.hint) == (level == "failed")


def test_reports_count_and_put_failures_first():
    findings = (Finding("a", "ok"), Finding("b", "failed", "m.py:3", "bad | worse", "correct it"))
    one = Report("m", "m.py", official=True, findings=findings)
    assert one.verdict == "m: 1 ok, 1 failed"
    assert str(one) == "m: 1 ok, 1 failed (m.py)\n  ok: a\n  failed: b: m.py:3: bad | worse\n      → correct it"
    text = markdown([one])
    assert text.index("correct it") < text.index("| ok | a |")
    assert "bad \\| worse" in text
    assert baseline_bands.judge(None)[0].level == "failed"


def flagged(name: str, kind: str) -> Record:
    """A published record with one flag raised on `best`."""
    record = Record.load(ROOT / "leaderboards/records/digits-linf-1/trades/seed0.json")
    best = record.checkpoints["best"]
    others = (flag for flag in best.evaluation.flags if flag.name != name)
    flags = (*others, Flag(name=name, kind=kind, state="raised", reason="seen"))
    evaluation = best.evaluation.model_copy(update={"flags": flags})
    checkpoints = {**record.checkpoints, "best": best.model_copy(update={"evaluation": evaluation})}
    return record.model_copy(update={"checkpoints": checkpoints})


def test_a_flag_fails_unless_autoattacks_figure_stands_in_spite_of_it():
    """Every flag but one says that AutoAttack is no bound, or that the run is not valid."""
    states = {}
    for name, about in ABOUT.items():
        findings = baseline_bands.judge(flagged(name, about.kind))
        (states[name],) = {one.level for one in findings if one.rule == f"flag {name} on best"}
    assert {name for name, state in states.items() if state == "suspicious"} == {"autoattack-far-below-pgd"}
    assert set(states.values()) == {"suspicious", "failed"}


def test_what_is_suspicious_is_shown_first_and_is_no_failure():
    findings = (Finding("a", "ok"), Finding("flag x on best", "suspicious", "", "seen", "look"))
    one = Report("m", "m.py", official=True, findings=findings)
    assert one.verdict == "m: 1 ok, 1 suspicious"
    assert not one.failed
    text = markdown([one])
    assert "- **flag x on best** (suspicious): seen\n  - look" in text
    assert text.index("(suspicious)") < text.index("| ok | a |")
    assert "| suspicious | flag x on best |" in text
