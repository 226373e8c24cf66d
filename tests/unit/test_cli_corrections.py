"""Corrections, filters, layouts and citations on the command line."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from advbench.benchmark.cli import main
from advbench.benchmark.protocol import published
from advbench.benchmark.records.publish import publish
from advbench.benchmark.records.schema import Record

ROOT = Path(__file__).parents[2]
HELD = sorted((ROOT / "leaderboards/records/digits-linf-1").glob("*/seed0.json"))
pytestmark = pytest.mark.skipif(not HELD, reason="no published records in this checkout")
WANTED = ("pgd_at", "trades", "mart", "act")


def advbench(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def refusal(*words: object) -> str:
    (line,) = advbench(*words, code=2).stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.fixture
def records(tmp_path) -> Path:
    """Four published records, in a folder of their own."""
    root = tmp_path / "records"
    publish([Record.load(path) for path in HELD if path.parent.name in WANTED], root)
    return root


def place(records: Path, method: str) -> Path:
    return records / "digits-linf-1" / method / "seed0.json"


def again(path: Path) -> None:
    """Publish the record of a method as if it had been measured again."""
    record = Record.load(path)
    training = record.training.model_copy(update={"seconds": record.training.seconds + 1})
    other = record.model_copy(update={"training": training})
    publish([other], path.parents[2], replace=True, reason="the clock was wrong")


def test_withdrawing_takes_a_row_off_and_shows_why(records):
    path = place(records, "act")
    run = Record.load(path).run
    said = advbench("publish", "--records", records, "--withdraw", run[:8], "--reason", "cannot be reproduced").stdout
    assert said.startswith(f"withdrew {path}; why: {path.parent / 'corrections.json'}")
    board = advbench("leaderboard", "--records", records, "--format", "markdown").stdout
    assert "| ACT |" not in board
    assert "ACT, seed 0, withdrawn: cannot be reproduced." in board
    past = advbench("leaderboard", "--records", records, "--history").stdout
    assert past.startswith("digits-linf/1: corrections")
    assert "ACT, seed 0, withdrawn: cannot be reproduced." in past


def test_a_board_may_lose_its_last_record_and_keeps_its_history(records):
    words = [word for method in WANTED for word in ("--withdraw", place(records, method))]
    advbench("publish", "--records", records, *words, "--reason", "wrong split")
    board = advbench("leaderboard", "--records", records).stdout
    assert "Every record under this protocol was withdrawn." in board
    assert advbench("leaderboard", "--records", records, "--history").stdout.count("wrong split") == len(WANTED)
    assert "no rows to make a LaTeX table of" in refusal("leaderboard", "--records", records, "--format", "latex")


def test_history_in_other_formats_and_without_any(records):
    assert "was ever corrected" in advbench("leaderboard", "--records", records, "--history").stdout
    again(place(records, "trades"))
    head, line = advbench("leaderboard", "--records", records, "--history", "--format", "csv").stdout.splitlines()
    assert head.startswith("protocol,digest,date,kind,method,label,seed,reason,old,new")
    assert ",replaced,trades,TRADES,0,the clock was wrong," in line
    assert "print it as" in refusal("leaderboard", "--records", records, "--history", "--format", "html")


def test_a_spoilt_history_is_refused_by_every_reader(records, tmp_path):
    again(place(records, "trades"))
    (file,) = records.rglob("corrections.json")
    (correction,) = json.loads(file.read_text())
    file.write_text(json.dumps([correction | {"new": "0" * 64}]))
    out = tmp_path / "out"
    for words in (
        ("leaderboard", "--records", records),
        ("leaderboard", "--records", records, "--out", out, "--check"),
        ("plot", "--records", records, "--out", out),
        ("site", "--records", records, "--out", out),
        ("bibtex", "--records", records),
        ("validate", place(records, "mart"), "--records", records),
    ):
        assert "is not what its last correction put there" in refusal(*words), words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--withdraw", "act"), "means 0 records"),
        (("--withdraw", "x", "--replace"), "--withdraw stands alone"),
        (("--reason", "why"), "--reason belongs to --replace or --withdraw"),
    ],
)
def test_publish_refuses(records, words, said):
    assert said in refusal("publish", "--records", records, *words)


def test_withdrawing_needs_a_reason(records):
    path = place(records, "act")
    assert 'add --reason "why"' in refusal("publish", "--records", records, "--withdraw", path)
    assert path.exists()


def test_check_and_validate_accept_corrections(records, tmp_path):
    again(place(records, "trades"))
    advbench("publish", "--records", records, "--withdraw", place(records, "act"), "--reason", "cannot be reproduced")
    out = tmp_path / "tables"
    advbench("leaderboard", "--records", records, "--out", out)
    advbench("leaderboard", "--records", records, "--out", out, "--check")
    again(place(records, "mart"))
    stale = advbench("leaderboard", "--records", records, "--out", out, "--check", code=1).stderr
    assert "digits-linf-1.md" in stale


def test_filters_and_order(records):
    words = ("leaderboard", "--records", records, "--format", "markdown", "--checkpoint", "best")
    board = advbench(*words, "--family", "regularised,two networks", "--sort", "clean:asc").stdout
    rows = [line.split(" | ") for line in board.splitlines() if line.startswith("|") and "best" in line]
    clean = [float(re.match(r"[\d.]+", row[3].strip("*")).group()) for row in rows]
    assert clean == sorted(clean)
    assert "PGD-AT" not in "".join(map(str, rows))
    assert "ranks are those of the whole board" in board
    assert "no row fits these filters" in refusal(*words, "--dataset", "cifar10")
    assert "no row fits these filters" in refusal(*words, "--since", "2999-01-01")
    assert "no row fits these filters" in refusal(*words, "--division", "open")
    assert "no family 'magic'" in refusal(*words, "--family", "magic")
    assert "is no day" in refusal(*words, "--until", "soon")
    assert "cannot sort by 'beauty'" in refusal(*words, "--sort", "beauty")


def test_filters_choose_among_boards(records):
    other = Record.load(HELD[0])
    protocol = published()["cifar10-linf/1"]
    changed = {
        "protocol": protocol,
        "protocol_name": protocol.name,
        "protocol_digest": protocol.digest,
        "network": protocol.network,
        "method": other.method.model_copy(update={"name": "alone", "label": "Alone"}),
    }
    (records / "other.json").write_text(other.model_copy(update=changed).dumps())
    one = advbench("leaderboard", "--records", records, "--network", "PreActResNet-18", "--format", "csv").stdout
    assert "cifar10-linf/1" in one
    assert ",TRADES," not in one
    assert "Alone" in advbench("leaderboard", "--records", records, "--methods", "alone", "--format", "csv").stdout
    message = refusal("leaderboard", "--records", records, "--format", "latex")
    assert "choose one with --protocol" in message
    assert "--group-by" in message
    text = advbench("leaderboard", "--records", records, "--format", "latex", "--group-by", "dataset").stdout
    assert r"{CIFAR-10}" in text
    assert r"{Digits}" in text
    assert (
        advbench("leaderboard", "--records", records, "--format", "html").stdout.count('<div class="board-page"') == 2
    )


def test_published_numbers_beside_ours(records):
    said = advbench("leaderboard", "--records", records, "--published").stdout
    assert "No published number known here matches" in said


def test_every_option_of_latex(records):
    words = ("leaderboard", "--records", records, "--format", "latex")
    text = advbench(
        *words, "--venue", "icml", "--width", "double", "--blocks", "per-attack", "--second", "--plain",
        "--decimals", "2", "--caption", r"Ours \& theirs.", "--label", "tab:x",
        "--columns", "clean,autoattack,gap_autoattack",
    ).stdout  # fmt: skip
    for part in (r"\begin{table*}", r"\citep{", "Diff.", r"\hline", r"\caption{Ours \& theirs.}", r"\label{tab:x}"):
        assert part in text
    assert r"\toprule" not in text
    assert re.search(r"& \d\d\.\d\d &", text)
    assert r"\cite" not in advbench(*words, "--no-cite", "--transpose").stdout
    assert r"{\tiny [" in advbench(*words, "--intervals", "--blocks", "side-by-side").stdout
    assert "--width, --second: only with --format latex" in refusal(
        "leaderboard", "--records", records, "--width", "double", "--second"
    )
    assert "--decimals: CSV has every digit" in refusal(
        "leaderboard", "--records", records, "--format", "csv", "--decimals", "2"
    )
    assert re.search(r"\d\d\.\d{3}", advbench("leaderboard", "--records", records, "--decimals", "3").stdout)


class TestBibtex:
    def test_every_citation_of_a_table_has_an_entry(self, records, tmp_path):
        out = tmp_path / "robust.bib"
        said = advbench("bibtex", "--records", records, "--out", out).stdout
        assert said == f"wrote {out}: 4 entries\n"
        text = advbench("leaderboard", "--records", records, "--format", "latex").stdout
        keys = set(re.findall(r"\\cite\{(.*?)\}", text))
        assert len(keys) == 4
        assert all(re.search(rf"@\w+\{{{key},", out.read_text()) for key in keys)

    def test_methods_are_found_in_records_or_among_cards(self, records):
        text = advbench("bibtex", "--records", records, "--methods", "TRADES,fat").stdout
        assert "zhang2019theoretically" in text
        assert text.count("@") == 2
        assert "no method 'nobody'" in refusal("bibtex", "--records", records, "--methods", "nobody")

    def test_one_protocol_only_and_nothing_at_all(self, records, tmp_path):
        assert advbench("bibtex", "--records", records, "--protocol", "digits-linf/1").stdout.count("@") == 4
        assert "no records; name methods with --methods" in refusal(
            "bibtex", "--records", records, "--protocol", "cifar10-linf"
        )
        assert "no records" in refusal("bibtex", "--store", tmp_path / "empty")

    def test_a_method_that_cannot_be_cited_is_named(self, records):
        path = place(records, "mart")
        plain = json.loads(path.read_text())
        plain["method"]["key"] = ""
        path.write_text(json.dumps(plain))
        result = advbench("bibtex", "--records", records)
        assert result.stdout.count("@") == 3
        assert "no entry: method 'mart' cannot be cited: its card has no key" in result.stderr
        assert "MART}~" not in advbench("leaderboard", "--records", records, "--format", "latex").stdout
        assert (
            "none of these methods can be cited"
            in advbench("bibtex", "--records", records, "--methods", "mart", code=2).stderr
        )


def test_changes_without_a_correction_are_refused_in_a_checkout(records, tmp_path, monkeypatch):
    """What a pull request does to published records is compared with the revision it starts from."""

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    advbench("leaderboard", "--records", "records", "--out", "tables")
    git("add", "records")
    git("commit", "-q", "-m", "published")
    words = (
        "validate",
        "--changed",
        "--base",
        "HEAD",
        "--records",
        "records",
        "--tables",
        "tables",
        "--reattack",
        "none",
    )
    advbench("publish", "--records", "records", "--withdraw", place(Path("records"), "act"), "--reason", "gone")
    advbench("leaderboard", "--records", "records", "--out", "tables")
    advbench(*words)
    (tmp_path / "records/digits-linf-1/act/corrections.json").unlink()
    assert "silent correction" in advbench(*words, code=1).output
