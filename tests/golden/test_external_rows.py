"""External rows: networks that others trained stand beside a board in every format, and are never ranked with it."""

import csv
import io
import json
import subprocess
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark.cli import main
from advbench.benchmark.files import file_sha256
from advbench.benchmark.protocol import published
from advbench.benchmark.records import external
from advbench.benchmark.records.corrections import record_files
from advbench.benchmark.records.external import ExternalRecord
from advbench.benchmark.records.publish import publish
from advbench.benchmark.records.schema import RecordError
from advbench.benchmark.review import changed_records
from advbench.leaderboards import board, external_rows
from advbench.leaderboards.site import compose, load
from advbench.leaderboards.writers import html, latex, markdown, terminal
from advbench.leaderboards.writers.csv import write as write_csv

ABOUT = {"label": "TRADES, released", "source": "its authors, https://example.org/weights", "licence": "MIT"}
SHA = "a" * 64


@pytest.fixture(scope="module")
def document(make_record):
    """What `evaluate --out` writes of a network on the whole test set."""
    record = make_record("trades")
    threat = record.protocol.threat
    evaluation = record.checkpoints["best"].evaluation
    return {
        "kind": "evaluation off the board",
        "network": {"reference": "net.pt", "kind": "weights", "architecture": "smallcnn", "sha256": SHA, "text": ""},
        "protocol": record.protocol_name,
        "protocol_digest": record.protocol_digest,
        "data": record.data.model_dump(mode="json"),
        "images": 360,
        "test": 360,
        "subset": False,
        "threats": [
            {
                "norm": "linf",
                "eps": str(threat.eps),
                "eot": 0,
                "columns": {
                    name: {"accuracy": outcomes.accuracy, "interval": [0, 1], **outcomes.model_dump(mode="json")}
                    for name, outcomes in evaluation.columns.items()
                },
                "predictions": [image % 10 for image in range(360)],
                "flags": [{"name": "transfer", "kind": "masking", "state": "not run", "reason": "no peers"}],
            }
        ],
        "environment": record.training.environment.model_dump(mode="json"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, document, make_record):
    """A folder of three records and two external rows, and nothing else."""
    root = tmp_path_factory.mktemp("records")
    publish([make_record("pgd_at", seed=seed) for seed in range(3)], root)
    for number, label in enumerate((ABOUT["label"], "Another *network*")):
        path = root.parent / f"{number}.json"
        path.write_text(json.dumps(document))
        words = ("publish", "--external", path, "--records", root, "--source", ABOUT["source"], "--licence", "MIT")
        result = CliRunner().invoke(main, [*map(str, words), "--label", label])
        assert result.exit_code == 0, result.output
    return root


@pytest.fixture(scope="module")
def table(folder):
    found = external.load(folder)
    return external_rows.beside(board.build(board.load_records(folder)), found)


def test_they_are_no_records_and_take_no_part_in_ranks(folder, table):
    assert len(record_files(folder)) == len(board.load_records(folder)) == 3
    assert {row.identity.name for row in table.rows} == {"pgd_at"}
    assert table.ranking == board.build(board.load_records(folder)).ranking
    assert [row.label for row in table.external] == ["Another *network*", "TRADES, released"]
    assert not any(cell.bold for row in table.external for cell in row.cells.values())


@pytest.mark.parametrize(
    "write",
    [markdown.write, terminal.write, lambda table: html.write([table]), latex.write],
    ids=["markdown", "terminal", "html", "latex"],
)
def test_every_format_sets_them_apart_with_their_source(table, write):
    text = " ".join(write(table).replace(r"\allowbreak{}", "").split())
    assert "Trained elsewhere, attacked here" in text
    assert "TRADES, released" in text
    assert "example.org" in text
    assert "As published" not in text


def test_csv_tells_them_by_their_origin(table):
    rows = list(csv.DictReader(io.StringIO(write_csv(table))))
    assert [row["origin"] for row in rows] == ["measured here", "measured here", "external", "external"]
    last = rows[-1]
    assert (last["autoattack_n"], last["rank_low"], last["method_name"]) == ("1", "", "")
    assert float(last["autoattack"]) == table.external[1].cells["autoattack"].mean
    assert SHA[:16] in last["source"]
    assert "MIT" in last["source"]


def test_filters_leave_them_out_where_nothing_is_known(table):
    assert table.select(since="2020-01-01").external == ()
    chosen = table.select(methods=["pgd_at"])
    assert (chosen.external, chosen.notes[-1].text) == ((), "2 external rows are not shown.")


def test_the_site_shows_them_and_holds_their_files(folder):
    made = compose(load(folder))
    page = next(text.decode() for name, text in made.files.items() if name.startswith("boards/") and ".html" in name)
    assert page.count('<span class="mark">external</span>') == 2
    assert 'href="#external"' in page
    copied = [name for name in made.files if external.FOLDER in name]
    assert sorted(made.files[name] for name in copied) == [path.read_bytes() for path in external.files(folder)]


def test_a_board_of_external_rows_alone_has_tables_and_a_page(folder, tmp_path):
    (path, *_) = external.files(folder)
    root = tmp_path / "records"
    place = root / path.relative_to(folder)
    place.parent.mkdir(parents=True)
    place.write_bytes(path.read_bytes())
    words = ["leaderboard", "--records", str(root), "--out", str(tmp_path / "tables")]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert sorted(file.suffix for file in (tmp_path / "tables").iterdir()) == [".csv", ".html", ".md"]
    assert CliRunner().invoke(main, [*words, "--check"]).exit_code == 0
    assert "1 external" in compose(load(root)).files["index.html"].decode()


def test_a_row_is_replaced_with_a_reason_which_the_board_shows(document, tmp_path):
    path, root = tmp_path / "d.json", tmp_path / "records"
    path.write_text(json.dumps(document))
    first = external.publish(external.read_evaluation(path, **ABOUT), root)
    assert first is not None
    assert external.publish(external.read_evaluation(path, **ABOUT), root) is None
    old, noted = file_sha256(first), external.read_evaluation(path, **ABOUT, note="with extra data")
    with pytest.raises(RecordError, match="another row stands there"):
        external.publish(noted, root)
    external.publish(noted, root, reason="said what it was trained on", day=date(2026, 1, 2))
    (row,) = external.load(root)
    assert row.replaced[0].old == old
    shown = external_rows.beside(board.build([], published()["digits-linf-full/1"]), [row])
    assert any("replaced on 2026-01-02: said what it was trained on" in note.text for note in shown.notes)


def test_a_pull_request_may_not_change_a_row_in_silence(document, tmp_path, monkeypatch):
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    root, path = Path("records"), tmp_path / "d.json"
    path.write_text(json.dumps(document))
    git("init", "-q")
    place = external.publish(external.read_evaluation(path, **ABOUT), root)
    git("add", "records")
    git("commit", "-q", "-m", "published")
    before = place.read_bytes()
    assert list(changed_records.silent_corrections("HEAD", root)) == []
    external.publish(external.read_evaluation(path, **ABOUT, note="new"), root, reason="a note")
    assert list(changed_records.silent_corrections("HEAD", root)) == []
    assert changed_records.changed("HEAD", root) == [], "it is no record"
    place.write_bytes(before.replace(b"MIT", b"GPL"))
    (finding,) = changed_records.silent_corrections("HEAD", root)
    assert "an external row was changed or removed" in finding.message
    place.unlink()
    assert len(list(changed_records.silent_corrections("HEAD", root))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.update(kind="diagnosis"), "not what `advbench evaluate"),
        (lambda plain: plain.update(subset=True, images=100), "100 of 360 test images"),
        (lambda plain: plain["threats"][0].update(eps="1/10"), "another threat"),
        (lambda plain: plain["threats"][0].update(eot=5), "another threat"),
        (lambda plain: plain["threats"][0]["columns"].pop("autoattack"), "not measured: autoattack"),
        (lambda plain: plain["network"].update(kind="run"), "a run of the store"),
        (lambda plain: plain["network"].update(kind="code", sha256=None), "no sha256"),
        (lambda plain: plain.update(protocol_digest="0" * 64), "another protocol"),
        (lambda plain: plain.update(protocol="none/1"), "not a whole evaluation"),
        (lambda plain: plain.pop("threats"), "not a whole evaluation"),
        (lambda plain: plain["threats"][0]["columns"]["cw"].update(bits="zz"), "bits must be hexadecimal"),
    ],
)
def test_what_is_no_whole_evaluation_is_refused_in_one_line(document, tmp_path, change, message):
    plain, path = json.loads(json.dumps(document)), tmp_path / "d.json"
    change(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(RecordError, match=message) as error:
        external.read_evaluation(path, **ABOUT)
    assert "\n" not in str(error.value)


def test_a_row_says_whose_weights_it_is_of(document, tmp_path):
    path = tmp_path / "d.json"
    path.write_text(json.dumps(document))
    result = CliRunner().invoke(main, ["publish", "--external", str(path), "--label", "x"])
    assert result.exit_code == 2
    assert "--external needs --source, --licence" in result.output
    with pytest.raises(RecordError, match="in one line"):
        external.read_evaluation(path, **ABOUT | {"source": "a\nb"})
    whole = external.read_evaluation(path, **ABOUT).model_dump(mode="json")
    (tmp_path / "row.json").write_text(json.dumps(whole | {"protocol_name": "other/1"}))
    with pytest.raises(RecordError, match="name and digest"):
        ExternalRecord.load(tmp_path / "row.json")
