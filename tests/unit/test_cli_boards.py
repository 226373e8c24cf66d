"""Boards and figures on the command line, from a folder of records."""

import errno
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from advbench.benchmark.cli import main
from advbench.benchmark.protocol import Protocol, published
from advbench.benchmark.records.schema import (
    COLUMNS,
    Checkpoint,
    DataProvenance,
    Environment,
    Evaluation,
    MethodIdentity,
    Outcomes,
    Record,
    TrainingRecord,
)

RECORDS = Path(__file__).parents[2] / "leaderboards" / "records"
SHA = "0" * 64
DIGITS = published()["digits-linf/1"]


def advbench(*words: object) -> Result:
    """Run a command that succeeds."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def refusal(*words: object) -> str:
    """Run a command with bad input: exit code 2, one line on stderr, which is returned."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


def test_power_says_which_differences_a_board_finds():
    """From the noise of eight rows of three seeds on 360 digits; more seeds and more images find less."""
    words = ("power", "--records", RECORDS, "--protocol")
    said = advbench(*words, "digits-linf-full/1", "--points", 4).stdout
    assert "8 rows with all seeds: AutoAttack varies by 1.35 points over seeds on 360 images" in said
    found = [[float(cell) for cell in line.split()] for line in said.splitlines() if re.match(r" *\d+ +\d", line)]
    assert [row[0] for row in found] == [3, 5, 10, 20, 50]
    for column in range(1, 5):
        values = [row[column] for row in found]
        assert values == sorted(values, reverse=True)
    assert found[0][1] == 7.0, "what the board says of itself"
    assert "4 points apart on 360 images: more than 200 seeds" in said
    assert "4 points apart on 10,000 images: 4 seeds" in said
    assert "fewer than two rows with 3 seeds" in refusal(*words, "digits-linf/1")


def record(name: str, seed: int, robust: float, protocol: Protocol = DIGITS) -> Record:
    """A record with made-up outcomes, so that boards have something to show."""
    generator = np.random.default_rng(seed)
    clean = generator.random(100) < 0.95
    columns = {column: Outcomes.pack(clean & (generator.random(100) < robust)) for column in COLUMNS[1:]}
    evaluation = Evaluation(columns={"clean": Outcomes.pack(clean), **columns}, predicted_classes=(10,) * 10)
    return Record(
        run=f"{abs(hash((name, seed))) % 16**16:016x}",
        created="2026-01-01T00:00:00+00:00",
        protocol=protocol.canonical(),
        protocol_name=protocol.name,
        protocol_digest=protocol.digest,
        official=protocol.official,
        network=protocol.network,
        method=MethodIdentity(
            name=name,
            label=name.upper(),
            hyperparameters={},
            family="regularised",
            title="A Title",
            authors="First Last",
            venue="ICML",
            year=2019,
            url="https://example.org",
            key=name,
            robust=True,
        ),
        seed=seed,
        data=DataProvenance(
            name="digits",
            source="scikit-learn",
            verified=True,
            digest=SHA,
            train=1497,
            validation=200,
            test=100,
            split_sha256=SHA,
            num_classes=10,
        ),
        training=TrainingRecord(
            environment=Environment(
                advbench="0", python="3", libraries={}, device="cpu", cpu="x", threads=1, precision="fp32"
            ),
            epochs=12,
            seconds=10.0,
            peak_memory_bytes=1,
            passes={"forward": 1},
            images=1408,
            parameters_deployed=1,
            parameters_trained=1,
            selection="validation-pgd",
            best_epoch=11,
        ),
        checkpoints={name: Checkpoint(epoch=11, sha256=SHA, evaluation=evaluation) for name in ("best", "last")},
    )


@pytest.fixture
def records(tmp_path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    for name, robust in (("strong", 0.6), ("weak", 0.1)):
        for seed in (0, 1):
            (folder / f"{name}-{seed}.json").write_text(record(name, seed, robust).dumps())
    return folder


def test_leaderboard_prints_the_board(records):
    lines = advbench("leaderboard", "--records", records).stdout.splitlines()
    assert lines[0].startswith("digits-linf/1")
    strong = next(number for number, line in enumerate(lines) if "STRONG" in line)
    weak = next(number for number, line in enumerate(lines) if "WEAK" in line)
    assert strong < weak


@pytest.mark.parametrize(
    ("kind", "sign"), [("markdown", "| --- |"), ("csv", "rank_low,"), ("html", "<table"), ("latex", r"\begin{table")]
)
def test_leaderboard_prints_every_format(records, kind, sign):
    said = advbench("leaderboard", "--records", records, "--format", kind).stdout
    assert sign in said
    assert "STRONG" in said


def test_leaderboard_narrows_columns_methods_and_checkpoints(records):
    words = ("--columns", "method,checkpoint,clean", "--methods", "strong", "--checkpoint", "best")
    said = advbench("leaderboard", "--records", records, "--format", "markdown", *words).stdout
    assert "| Method | Checkpoint | Clean (%) |" in said
    assert "WEAK" not in said.split("\n- ")[0]
    assert "last" not in said.split("\n- ")[0]
    (records / "two-words.json").write_text(record("two_words", 0, 0.5).dumps())
    said = advbench("leaderboard", "--records", records, "--format", "markdown", "--methods", "two-words").stdout
    assert "TWO_WORDS" in said.replace("\\", "")
    assert "no column 'cleen'; columns: " in refusal("leaderboard", "--records", records, "--columns", "cleen")
    assert "no method 'medium'" in refusal("leaderboard", "--records", records, "--methods", "medium")


def test_leaderboard_and_plot_write_files(records, tmp_path):
    advbench("leaderboard", "--records", records, "--out", tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        f"digits-linf-1{end}" for end in (".md", ".csv", ".html", ".tex", "-tradeoff.png", "-tradeoff.pdf")
    }
    said = advbench("plot", "--records", records, "--out", tmp_path / "figures").stdout
    assert (tmp_path / "figures/digits-linf-1-tradeoff.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figures/digits-linf-1-tradeoff.pdf").read_bytes().startswith(b"%PDF")
    assert said.count("wrote ") == 2


def test_boards_of_several_protocols_are_never_mixed(records):
    other = published()["digits-linf-full/1"]
    (records / "other.json").write_text(record("strong", 0, 0.5, other).dumps())
    said = advbench("leaderboard", "--records", records).stdout
    assert "digits-linf/1" in said
    assert "digits-linf-full/1" in said
    message = refusal("leaderboard", "--records", records, "--format", "csv")
    assert "choose one with --protocol: digits-linf-full/1, digits-linf/1" in message
    one = advbench("leaderboard", "--records", records, "--format", "csv", "--protocol", "digits-linf-full/1").stdout
    assert "WEAK" not in one
    assert "no records of cifar10-linf/2" in refusal("leaderboard", "--records", records, "--protocol", "cifar10-linf")


def test_published_numbers_need_no_records_of_ones_own(tmp_path):
    words = ("leaderboard", "--published", "--store", tmp_path)
    assert "As published, not measured here" in advbench(*words, "--protocol", "cifar10-linf-wrn").stdout
    assert advbench(*words, "--format", "markdown").stdout.count("As published, not measured here*") > 1
    assert "no records" in refusal("leaderboard", "--store", tmp_path, "--protocol", "cifar10-linf-wrn")
    assert "no records" in refusal(*words, "--protocol", "digits-linf")


def test_a_file_that_cannot_be_written_is_named_in_words(records, tmp_path, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("advbench.benchmark.cli.board_files.write_bytes", full)
    result = CliRunner().invoke(main, ["leaderboard", "--records", str(records), "--out", str(tmp_path)])
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.endswith(".md: no space left on device; are the path, its permissions and its space right?")


def test_a_spoilt_record_costs_its_own_row_and_names_file_and_key(records):
    path = records / "strong-0.json"
    whole = advbench("leaderboard", "--records", records, "--format", "csv").stdout
    plain = json.loads(path.read_text())
    plain["training"]["seconds"] = "ten"
    path.write_text(json.dumps(plain))
    left = advbench("leaderboard", "--records", records, "--format", "csv")
    assert f"{path}: not a valid record: training.seconds" in left.stderr
    assert left.stdout != whole
