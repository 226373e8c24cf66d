"""`advbench run-all` from nothing to board and plot, and every command on what it leaves, on real digits."""

import csv
import dataclasses
import json
import os
import shutil
import time

import pytest

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import COLUMNS
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.store import Store


@pytest.fixture
def copy(place, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(place.folder, tmp_path / "copy")
    return dataclasses.replace(place, folder=tmp_path / "copy")


def test_every_column_of_both_checkpoints_is_measured(place):
    records = {record.method.name: record for record in place.records()}
    assert set(records) == {"standard", "pgd_at"}
    for record in records.values():
        assert record.protocol_name == "tiny"
        assert not record.official
        assert record.data.verified
        assert (record.data.train, record.data.validation, record.data.test) == (640, 100, 20)
        assert len(record.training.curve) == 3
        for name in ("best", "last"):
            evaluation = record.checkpoints[name].evaluation
            assert set(evaluation.columns) == set(COLUMNS)
            assert sum(evaluation.predicted_classes) == 20
            for column in COLUMNS:
                assert evaluation.columns[column].n == 20
                assert evaluation.accuracy(column) <= evaluation.accuracy("clean")
            assert evaluation.worst is not None


def test_the_board_is_written_in_every_format_with_its_plot(place):
    written = {path.name for path in (place.folder / "out").iterdir()}
    assert written == {f"tiny{end}" for end in (".md", ".csv", ".html", ".tex", "-tradeoff.png", "-tradeoff.pdf")}
    markdown = (place.folder / "out/tiny.md").read_text(encoding="utf-8")
    assert "unofficial protocol" in markdown
    assert "subset of the data" in markdown
    assert (place.folder / "out/tiny-tradeoff.png").read_bytes().startswith(b"\x89PNG")
    assert (place.folder / "out/tiny-tradeoff.pdf").read_bytes().startswith(b"%PDF")


def test_the_csv_holds_the_numbers_of_the_records(place):
    with (place.folder / "out/tiny.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["method"], row["checkpoint"]): row for row in csv.DictReader(file)}
    for record in place.records():
        for name, checkpoint in record.checkpoints.items():
            row = rows[record.method.label, name]
            for column in COLUMNS:
                assert float(row[column]) == pytest.approx(100 * checkpoint.evaluation.accuracy(column), abs=1e-6)


def test_a_second_run_does_nothing_and_says_so(place):
    before = place.snapshot()
    done = place.run_all()
    assert done.stdout.startswith("nothing to do: ")
    assert "PGD-AT" in done.stdout, "the board is shown all the same"
    assert place.snapshot() == before
    assert place.run_all("--dry-run").stdout.startswith("nothing to do: ")


def test_what_is_lost_is_done_again_to_the_bit(copy):
    """The second shard of an attack is removed: it comes back the same."""
    before = {record.method.name: record for record in copy.records()}
    folders = {folder.spec.method: folder for folder in Store(copy.store).folders()}
    journal = folders["pgd_at"].path / "evaluation/best/pgd.jsonl"
    kept = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(kept[0])
    said = copy.run_all("--dry-run").stdout
    assert "tiny standard seed 0" not in said
    assert "attack best (pgd)" in said
    work = ("work", *copy.suite, "--jobs", "1", "--device", "cpu")
    assert "time is up: 0 jobs done, 2 left" in copy.advbench(*work, "--max-hours", "1e-9").stdout
    assert (
        copy.advbench(*work, "--max-hours", "1", "--until", "2999-01-01").stdout
        == "nothing is left: 2 jobs done here\n"
    )
    assert copy.advbench(*work).stdout == "nothing is left: 0 jobs done here\n"
    assert "'2001-01-01' is past" in copy.advbench(*work, "--until", "2001-01-01", code=2).stderr
    assert "write a time as 07:30" in copy.advbench(*work, "--until", "soon", code=2).stderr
    after = {record.method.name: record for record in copy.records()}
    for name, record in before.items():
        for checkpoint, one in record.checkpoints.items():
            other = after[name].checkpoints[checkpoint]
            assert other.sha256 == one.sha256
            for column in COLUMNS:
                assert other.evaluation.columns[column].bits == one.evaluation.columns[column].bits


def test_status_shows_every_run_done(place):
    said = place.advbench("status").stdout
    assert said.splitlines()[-1] == "2 done"
    assert said.count("20/20") == 2, "two shards, five families, two checkpoints"
    more = place.advbench("status", "--protocol", "tiny.toml", "--methods", "standard,trades", "--seeds", "0").stdout
    assert "tiny trades seed 0" in more
    assert more.splitlines()[-1] == "1 done, 1 missing"


def test_evaluate_and_train_find_nothing_to_do(place):
    run = place.records()[0].run
    done = place.advbench("evaluate", run[:6], "--device", "cpu")
    assert done.stdout.startswith("nothing to do: attacked already")
    assert "record: " in done.stdout
    done = place.advbench("train", "pgd_at", "--protocol", "tiny.toml", "--device", "cpu")
    assert done.stdout.startswith("nothing to do: trained already")
    assert "tiny pgd_at seed 0: " in done.stdout


def test_evaluate_does_what_is_missing(copy):
    (folder,) = (folder for folder in Store(copy.store).folders() if folder.spec.method == "standard")
    before = folder.record()
    (folder.path / "evaluation/best/cw.jsonl").unlink()
    words = ("--checkpoint", "best", "--attack", "cw", "--device", "cpu")
    copy.advbench("evaluate", folder.id, *words)
    after = folder.record()
    assert (
        before.checkpoints["best"].evaluation.columns["cw"].bits
        == after.checkpoints["best"].evaluation.columns["cw"].bits
    )


def test_a_job_file_is_done(copy):
    (folder,) = (folder for folder in Store(copy.store).folders() if folder.spec.method == "standard")
    (folder.path / "evaluation/best/cw.jsonl").unlink()
    job = Job("evaluate", folder.spec, "best", "cw", (0, 1))
    (copy.folder / "job.json").write_text(json.dumps(job.to_plain()), encoding="utf-8")
    done = copy.advbench("job", "job.json", "--device", "cpu", "--threads", "1")
    assert done.stdout == "cw on best of tiny standard seed 0: done\n"
    trained = folder.trained()
    assert folder.finished("best", "cw", trained) == {0, 1}
    with folder.claim(folder.work_key("best", "pgd", 0, trained)):
        journal = folder.path / "evaluation/best/pgd.jsonl"
        journal.unlink()
        busy = Job("evaluate", folder.spec, "best", "pgd", (0,))
        (copy.folder / "job.json").write_text(json.dumps(busy.to_plain()), encoding="utf-8")
        assert "another process holds the work" in copy.advbench("job", "job.json", "--device", "cpu", code=75).stderr


def test_a_job_that_fails_is_one_line_and_exit_code_1(copy):
    spec = next(iter(Store(copy.store).folders())).spec
    job = Job("train", type(spec)(spec.protocol, "trades", {"beta": -1.0}, 0))
    (copy.folder / "job.json").write_text(json.dumps(job.to_plain()), encoding="utf-8")
    done = copy.advbench("job", "job.json", "--device", "cpu", code=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "trades" in errors[0]
    assert "1 failed" in copy.advbench("status", code=1).stdout


def test_leaderboard_plot_and_publish_read_the_store(copy):
    said = copy.advbench("leaderboard", "--protocol", "tiny.toml", "--format", "csv").stdout
    assert len(said.splitlines()) == 5
    assert "wrote figures/tiny-tradeoff.png" in copy.advbench("plot").stdout
    assert copy.advbench("publish", "--protocol", "tiny.toml").stdout.count("wrote leaderboards/records/tiny/") == 2
    assert "2 records were published already" in copy.advbench("publish", "--protocol", "tiny.toml").stdout
    published = copy.advbench("leaderboard", "--records", "leaderboards/records", "--format", "csv").stdout
    assert published == said
    run = copy.records()[0].run
    assert "1 records were published already" in copy.advbench("publish", run[:6]).stdout


def test_a_job_that_fails_is_named_and_the_board_is_shown(copy):
    """Weights whose bits have turned fail the attacks on them; the same command then trains them anew."""
    folder = next(folder for folder in Store(copy.store).folders() if folder.spec.method == "standard")
    before = folder.record()
    for name in ("best", "last"):
        raw = bytearray(folder.weights(name).read_bytes())
        raw[-1] ^= 1
        folder.weights(name).write_bytes(raw)
        (folder.path / f"evaluation/{name}/cw.jsonl").unlink(missing_ok=True)
    os.utime(folder.path / "training.json", (time.time() + 99,) * 2)  # the file system knows of no change
    done = copy.run_all(code=1)
    failures = [line for line in done.stderr.splitlines() if line.startswith("failed: cw on ")]
    assert failures
    assert "is not what training wrote" in failures[0]
    assert "the same command tries them again" in done.stderr.splitlines()[-1]
    assert "PGD-AT" in done.stdout
    assert "1 done, 1 failed" in copy.advbench("status", code=1).stdout
    copy.run_all()
    assert copy.advbench("status").stdout.endswith("2 done\n")
    assert folder.record().checkpoints["best"].sha256 == before.checkpoints["best"].sha256


def test_a_run_that_is_not_attacked_in_full_is_not_published(copy):
    folder = next(iter(Store(copy.store).folders()))
    (folder.path / "evaluation/best/autoattack.jsonl").unlink()
    copy.advbench("evaluate", folder.id, "--attack", "clean", "--device", "cpu")
    from advbench.benchmark.runs.build_record import build_record

    folder.write_record(build_record)
    assert "not attacked in full yet" in copy.advbench("publish", folder.id, code=2).stderr
    left_out = copy.advbench("publish", "--protocol", "tiny.toml")
    assert "left out, not attacked in full yet" in left_out.stderr
    assert left_out.stdout.count("wrote ") == 1


def test_prune_shows_before_it_removes(copy):
    said = copy.advbench("prune").stdout
    assert "training is done" in said
    assert "nothing was removed: add --yes" in said
    assert len(list(copy.store.rglob("resume.pt"))) == 2
    assert "removed " in copy.advbench("prune", "--yes").stdout
    assert not list(copy.store.rglob("resume.pt"))
    assert copy.run_all().stdout.startswith("nothing to do: ")
    suite = 'protocols = ["tiny.toml"]\nseeds = [0]\n[[method]]\nname = "pgd_at"\n'
    (copy.folder / "suite.toml").write_text(suite, encoding="utf-8")
    assert "no board or suite uses it" in copy.advbench("prune", "--suite", "suite.toml", "--yes").stdout
    assert [record.method.name for record in copy.records()] == ["pgd_at"]


def test_the_protocol_of_the_user_is_what_was_run(place):
    protocol = Protocol.from_toml(place.folder / "tiny.toml")
    assert {record.protocol_digest for record in place.records()} == {protocol.digest}
