"""Records: outcomes are bits, accuracies are derived, what does not fit the schema is refused in one line."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from advbench.benchmark.cli import options
from advbench.benchmark.protocol import published
from advbench.benchmark.records import corrections, schema
from advbench.benchmark.records.schema import (
    COLUMNS,
    Checkpoint,
    DataProvenance,
    Environment,
    Epoch,
    Evaluation,
    MethodIdentity,
    ObsoleteError,
    Outcomes,
    Passes,
    Record,
    RecordError,
    TrainingRecord,
    describe_selection,
    due_selection,
)

SHA = "0" * 64


@pytest.fixture
def environment() -> Environment:
    return Environment(
        advbench="0.1.0", python="3.11", libraries={"torch": "2.6"}, device="cpu", cpu="x", threads=1, precision="fp32"
    )


@pytest.fixture
def evaluation() -> Evaluation:
    generator = np.random.default_rng(0)
    clean = generator.random(101) < 0.9
    columns = {name: Outcomes.pack(clean & (generator.random(101) < 0.6)) for name in COLUMNS[1:]}
    return Evaluation(columns={"clean": Outcomes.pack(clean), **columns})


@pytest.fixture
def record(environment, evaluation) -> Record:
    protocol = published()["digits-linf/1"]
    return Record(
        run="0123456789abcdef",
        created="2026-01-01T00:00:00+00:00",
        protocol=protocol.canonical(),
        protocol_name=protocol.name,
        protocol_digest=protocol.digest,
        official=True,
        network="smallcnn",
        method=MethodIdentity(
            name="trades",
            label="TRADES",
            hyperparameters={"beta": 3.0},
            changed={"beta": 3.0},
            family="regularised",
            title="t",
            authors="a",
            venue="ICML",
            year=2019,
            url="u",
            key="k",
            robust=True,
        ),
        seed=0,
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
            environment=environment,
            epochs=12,
            seconds=1.5,
            peak_memory_bytes=1,
            passes=Passes(forward=1),
            images=1408,
            parameters_deployed=1,
            parameters_trained=1,
            selection="validation-pgd",
            best_epoch=11,
        ),
        checkpoints={"best": Checkpoint(epoch=11, sha256=SHA, evaluation=evaluation)},
    )


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 100, 10_000])
def test_outcomes_keep_every_bit(n):
    correct = np.random.default_rng(n).random(n) < 0.5
    packed = Outcomes.pack(correct)
    np.testing.assert_array_equal(packed.correct, correct)
    assert Outcomes.model_validate_json(packed.model_dump_json()) == packed


def test_accuracy_is_the_share_of_set_bits():
    assert Outcomes.pack(np.array([True, False, True, True])).accuracy == 0.75
    assert np.isnan(Outcomes.pack(np.zeros(0, dtype=bool)).accuracy)


def test_bits_of_another_length_or_alphabet_are_refused():
    with pytest.raises(ValidationError, match="9 images need 2"):
        Outcomes(n=9, bits="ff")
    with pytest.raises(ValidationError, match="hexadecimal"):
        Outcomes(n=8, bits="xx")


def test_worst_case_is_the_conjunction_per_image(evaluation):
    everything = np.all([evaluation.columns[name].correct for name in COLUMNS], axis=0)
    np.testing.assert_array_equal(evaluation.worst, everything)
    assert evaluation.accuracy("worst") == everything.mean()
    assert evaluation.accuracy("worst") < min(evaluation.accuracy(name) for name in COLUMNS)


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_missing_column_leaves_no_worst_case(evaluation, missing):
    columns = {name: outcomes for name, outcomes in evaluation.columns.items() if name != missing}
    partial = Evaluation(columns=columns)
    assert partial.worst is None
    assert partial.accuracy("worst") is None
    assert partial.accuracy(missing) is None


def test_passes_add_up_in_forwards():
    pgd_at = Passes(forward=11, input_gradient=10, weight_gradient=1)
    assert pgd_at.forwards == 23
    assert (pgd_at + pgd_at).forwards == 46


def test_a_record_survives_its_file(record, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(record.dumps(), encoding="utf-8")
    again = Record.load(path)
    assert again == record
    assert again.dumps() == record.dumps()


def test_numbers_are_numbers_in_the_file(record):
    plain = json.loads(record.dumps())
    assert plain["training"]["seconds"] == 1.5
    assert plain["method"]["hyperparameters"]["beta"] == 3.0
    assert plain["protocol"]["threat"]["eps"] == "3/20"


def test_a_variant_has_a_row_of_its_own(record):
    assert record.method.row == "TRADES (beta=3.0)"
    assert record.method.model_copy(update={"changed": {}}).row == "TRADES"


def test_records_cannot_be_changed(record):
    with pytest.raises(ValidationError, match="frozen"):
        record.seed = 1


SPOILED = [
    (("seed",), -1, "seed"),
    (("seed",), "zero", "seed"),
    (("protocol_digest",), "abc", "protocol_digest"),
    (("training", "seconds"), -1.0, "training.seconds"),
    (("training", "passes", "forward"), -1, "training.passes.forward"),
    (("data", "digest"), SHA.replace("0", "G"), "data.digest"),
    (
        ("checkpoints", "best", "evaluation", "columns", "clean", "bits"),
        "00",
        "checkpoints.best.evaluation.columns.clean",
    ),
    (("checkpoints", "middle"), {"epoch": 0, "sha256": SHA}, "checkpoints.middle"),
    (("extra",), 1, "extra"),
    (("schema_version",), 2, "schema_version"),
]


@pytest.mark.parametrize(("path", "value", "key"), SPOILED)
def test_what_fails_the_schema_is_refused_in_one_line(record, tmp_path, path, value, key):
    plain = json.loads(record.dumps())
    holder = plain
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    file = tmp_path / "record.json"
    file.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        Record.load(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: not a valid record: {key}")
    assert "\n" not in message


def test_a_key_of_two_lines_makes_no_message_of_two_lines(record, tmp_path):
    plain = json.loads(record.dumps())
    plain["two\nlines"] = 1
    (tmp_path / "record.json").write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(RecordError, match="two lines: unknown key") as caught:
        Record.load(tmp_path / "record.json")
    assert "\n" not in str(caught.value)


def test_a_number_that_is_not_finite_is_refused(record, tmp_path):
    file = tmp_path / "record.json"
    file.write_text(record.dumps().replace('"seconds": 1.5', '"seconds": NaN'), encoding="utf-8")
    with pytest.raises(RecordError, match="not finite"):
        Record.load(file)


def test_a_file_that_is_no_json_or_not_there_is_refused(tmp_path):
    file = tmp_path / "record.json"
    with pytest.raises(RecordError, match="cannot be read"):
        Record.load(file)
    file.write_text('{"run": ', encoding="utf-8")
    with pytest.raises(RecordError, match="not valid JSON") as caught:
        Record.load(file)
    assert "\n" not in str(caught.value)


def test_the_schema_can_be_exported():
    schema = Record.model_json_schema()
    assert schema["properties"]["protocol_digest"]["pattern"] == "^[0-9a-f]{64}$"


@pytest.mark.parametrize(
    ("older", "selection", "text"),
    [
        ("validation PGD-10", "validation-pgd", "validation PGD-7"),
        ("validation clean accuracy", "validation-clean", "validation clean accuracy"),
    ],
)
def test_selection_is_read_in_its_older_words_and_told_from_the_protocol(record, older, selection, text):
    plain = json.loads(record.dumps())
    plain["training"]["selection"] = older
    plain["protocol"]["selection"] = {"steps": 7, "step": "1/100"}
    again = Record.model_validate(plain)
    assert (again.training.selection, again.selection_text) == (selection, text)
    plain["training"]["selection"] = "the best test accuracy"
    with pytest.raises(ValueError, match="selection"):
        Record.model_validate(plain)


def epochs(*accuracies):
    fixed = dict.fromkeys(("lr", "loss", "clean", "seconds", "images_per_second"), 0.9)
    more = {"peak_memory_bytes": 1, "passes": Passes()}
    return tuple(Epoch(epoch=at, robust=robust, **fixed, **more) for at, robust in enumerate(accuracies))


def test_the_gain_from_selection_is_counted_from_the_last_tenth_of_the_epochs(record):
    curve = epochs(*[0.3] * 11, 0.5, *[0.3] * 6, 0.4, 0.2)
    chosen = record.training.model_copy(update={"curve": curve, "best_epoch": 11})
    assert chosen.selection_gain == pytest.approx(0.5 - (0.4 + 0.2) / 2)
    assert chosen.model_copy(update={"selection": "validation-clean"}).selection_gain == 0
    assert record.training.selection_gain is None


def test_the_rule_of_selection_is_the_protocols_and_the_cards(record):
    worst = dataclasses.replace(record.protocol.selection, measure="worst")
    protocol = dataclasses.replace(record.protocol, selection=worst)
    assert due_selection(record.protocol, robust=True) == "validation-pgd"
    assert due_selection(protocol, robust=True) == "validation-worst"
    assert due_selection(protocol, robust=False) == "validation-clean"
    assert "worst of cross-entropy and margin" in describe_selection("validation-worst", 10)


def test_a_protocol_that_is_none_any_more_costs_its_own_row_only(record, tmp_path, caplog):
    old = json.loads(record.dumps())
    old["protocol"]["training"]["warmup"] = 5
    (tmp_path / "old.json").write_text(json.dumps(old), encoding="utf-8")
    (tmp_path / "new.json").write_text(record.dumps(), encoding="utf-8")
    with pytest.raises(ObsoleteError, match=r"old\.json: not a valid record: protocol.*warmup: unknown key"):
        Record.load(tmp_path / "old.json")
    assert list(corrections.read(tmp_path).records) == [tmp_path / "new.json"]
    assert "left out" in caplog.text


def test_published_records_are_written_as_they_stand():
    files = corrections.record_files(Path(__file__).parents[2] / "leaderboards" / "records")
    assert len(files) >= 70
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        again = json.loads(Record.load(file).dumps())
        assert again["protocol"] == found["protocol"]


def test_the_command_line_knows_the_families_of_the_records():
    """It has a copy, so that help needs neither numpy nor pydantic."""
    assert options.FAMILIES == schema.FAMILIES
