"""Replacing and withdrawing published records: noted with their reasons, refused where list and records disagree."""

import json
from datetime import date
from pathlib import Path

import pytest

from advbench.benchmark.files import file_sha256
from advbench.benchmark.records.corrections import NAME, CorrectionError, load, read, record_files
from advbench.benchmark.records.publish import PublishError, find, publish, withdraw
from advbench.benchmark.records.schema import Record

WHY = "labels of the test set were shuffled"
DAYS = [date(2026, 12, day) for day in (1, 2, 3)]


@pytest.fixture
def one(store, made):
    return made.record(made.folder_of(store, made.suite("trades"), "trades"))


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "records"


def again(record: Record, seconds: float) -> Record:
    """The record of the same run, measured again."""
    training = record.training.model_copy(update={"seconds": seconds})
    return record.model_copy(update={"training": training})


def test_a_replaced_record_is_noted_with_its_reason(one, root):
    (path,) = publish([one], root)
    digest = file_sha256(path)
    assert publish([again(one, 1.5)], root, replace=True, reason=f" {WHY}\n", day=DAYS[0]) == (path,)
    found = read(root)
    assert list(found.records) == record_files(root) == [path]
    assert found.records[path].training.seconds == 1.5
    ((correction, place),) = found.entries
    assert (correction.kind, correction.reason, correction.date) == ("replaced", WHY, DAYS[0])
    assert (correction.old, correction.new, place) == (digest, file_sha256(path), path)
    assert (correction.label, correction.seed, correction.old_run) == (one.method.row, 0, one.run)
    assert correction.identity == (one.protocol_digest, one.method.name, one.seed)
    clean = 100 * one.checkpoints["best"].evaluation.accuracy("clean")
    assert (correction.clean_before, correction.clean_after) == (clean, clean)


def test_a_record_is_replaced_withdrawn_and_brought_back(one, root):
    (path,) = publish([one], root)
    publish([again(one, 1.5)], root, replace=True, reason="first", day=DAYS[0])
    written = withdraw(path, reason="second", day=DAYS[1])
    assert not path.exists()
    assert read(root).records == {}
    with pytest.raises(PublishError, match="was withdrawn from there; replace it on purpose with --replace --reason"):
        publish([again(one, 2.5)], root)
    publish([again(one, 2.5)], root, replace=True, reason="third", day=DAYS[2])
    found = read(root)
    assert [(correction.kind, correction.reason) for correction in found.history] == [
        ("replaced", "first"),
        ("withdrawn", "second"),
        ("replaced", "third"),
    ]
    first, gone, back = found.history
    assert (gone.old, gone.new, back.old, back.new) == (first.new, None, first.new, file_sha256(path))
    assert found.records[path].training.seconds == 2.5
    assert written == path.parent / NAME


def test_corrections_of_one_day_stand_in_their_order(one, root):
    publish([one], root)
    for number in range(6):
        publish([again(one, 1.5 + number)], root, replace=True, reason=f"number {number}", day=DAYS[0])
    assert [correction.reason for correction in read(root).history] == [f"number {number}" for number in range(6)]


def test_nothing_is_superseded_without_purpose_and_reason(one, root):
    (path,) = publish([one], root)
    for words in ({}, {"reason": WHY}):
        with pytest.raises(PublishError, match="replace it on purpose with --replace --reason"):
            publish([again(one, 1.5)], root, **words)
    for reason in ("", " \n"):
        with pytest.raises(PublishError, match=r'add --reason "why"'):
            publish([again(one, 1.5)], root, replace=True, reason=reason)
        with pytest.raises(PublishError, match=r'add --reason "why"'):
            withdraw(path, reason=reason)
    assert publish([one], root, replace=True) == ()
    assert not (path.parent / NAME).exists()
    assert Record.load(path) == one


def test_what_was_superseded_does_not_come_back(one, root):
    (path,) = publish([one], root)
    publish([again(one, 1.5)], root, replace=True, reason=WHY)
    with pytest.raises(PublishError, match=r"this record was replaced on .* \(labels .*does not come back"):
        publish([one], root, replace=True, reason="it was better")
    withdraw(path, reason=WHY)
    with pytest.raises(PublishError, match="was withdrawn on"):
        publish([again(one, 1.5)], root, replace=True, reason=WHY)


def test_a_correction_keeps_protocol_method_and_seed(one, root):
    publish([one], root)
    other = one.model_copy(update={"protocol_digest": "0" * 64})
    with pytest.raises(PublishError, match="another protocol digest"):
        publish([other], root, replace=True, reason=WHY)


def test_records_are_found_by_file_or_run(one, root, tmp_path):
    (path,) = publish([one], root)
    assert find(root, str(path)) == find(root, one.run[:6]) == path
    outside = tmp_path / "seed0.json"
    outside.write_bytes(path.read_bytes())
    for word, said in ((str(outside), "lies outside"), ("ffffffff", "means 0 records")):
        with pytest.raises(PublishError, match=said):
            find(root, word)
    with pytest.raises(PublishError, match="no such folder"):
        find(root / "nowhere", one.run)
    for odd in (path.parent / "seed7.json", path.parent / NAME):
        with pytest.raises(PublishError, match="no published record"):
            withdraw(odd, reason=WHY)


class TestSpoilt:
    """What a hand or a bad merge does to a list is found and said in one line."""

    @pytest.fixture
    def path(self, one, root) -> Path:
        (path,) = publish([one], root)
        for number in (1, 2):
            publish([again(one, 1.5 + number)], root, replace=True, reason=f"number {number}", day=DAYS[number])
        return path

    def refused(self, root: Path, message: str) -> None:
        with pytest.raises(CorrectionError, match=message) as caught:
            read(root)
        assert "\n" not in str(caught.value)

    def test_a_list_without_its_last_entry(self, path, root):
        file = path.parent / NAME
        file.write_text(json.dumps(json.loads(file.read_text())[:-1]))
        self.refused(root, "is not what its last correction put there; publish it with --replace")

    def test_a_record_that_was_edited_or_removed_by_hand(self, path, root):
        raw = path.read_text()
        path.write_text(raw + "\n")
        self.refused(root, "is not what its last correction put there; publish it with --replace")
        path.unlink()
        self.refused(root, "is missing and was not withdrawn")
        path.write_text(raw)
        withdraw(path, reason=WHY)
        path.write_text(raw)
        self.refused(root, "was withdrawn and stands there")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"reason": " "}, "not a valid correction: 0.reason: .*in one line"),
            ({"reason": "two\nlines"}, "in one line"),
            ({"old": "abc"}, "not a valid correction: 0.old"),
            ({"new": None}, "missing if it was withdrawn"),
            ({"kind": "forgotten"}, "not a valid correction: 0.kind"),
            ({"kind": "withdrawn"}, "missing if it was withdrawn"),
            ({"record": "../seed0.json"}, "not a valid correction: 0.record"),
            ({"record": "seed1.json"}, "seed1.json: is missing and was not withdrawn"),
            ({"colour": "red"}, "not a valid correction: 0.colour: unknown key"),
            ({"date": "yesterday"}, "not a valid correction: 0.date"),
        ],
    )
    def test_an_entry_that_fails_its_schema(self, path, root, change, message, caplog):
        file = path.parent / NAME
        first, *rest = json.loads(file.read_text())
        file.write_text(json.dumps([first | change, *rest]))
        if change == {"record": "seed1.json"}:  # its schema is fine
            self.refused(root, message)
            return
        with pytest.raises(CorrectionError, match=message) as caught:
            load(path.parent)
        assert "\n" not in str(caught.value)
        assert read(root).records == {}
        assert "left out with the records beside it" in caplog.text
