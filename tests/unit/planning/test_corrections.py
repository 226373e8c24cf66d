"""Replacing and withdrawing published records: kept with their reasons, verified by hash, refused when spoilt."""

import json
from datetime import date
from pathlib import Path

import pytest

from advbench.benchmark.files import file_sha256
from advbench.benchmark.records.corrections import FOLDER, CorrectionError, kept, place, read, record_files
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


def test_a_replaced_record_is_kept_byte_for_byte_with_its_reason(one, root):
    (path,) = publish([one], root)
    before = path.read_bytes()
    digest = file_sha256(path)
    assert publish([again(one, 1.5)], root, replace=True, reason=f" {WHY}\n", day=DAYS[0]) == (path,)
    assert kept(path, digest).read_bytes() == before
    found = read(root)
    assert list(found.records) == record_files(root) == [path]
    assert found.records[path].training.seconds == 1.5
    (event,) = found.history
    assert (event.correction.kind, event.correction.reason, event.correction.date) == ("replaced", WHY, DAYS[0])
    assert (event.correction.old, event.correction.new) == (digest, file_sha256(path))
    assert (event.before, event.after) == (one, found.records[path])
    assert event.title == f"{one.method.row}, seed 0"


def test_corrections_form_a_chain_through_replacement_withdrawal_and_return(one, root):
    (path,) = publish([one], root)
    publish([again(one, 1.5)], root, replace=True, reason="first", day=DAYS[0])
    written = withdraw(path, reason="second", day=DAYS[1])
    assert not path.exists()
    assert read(root).records == {}
    with pytest.raises(PublishError, match="was withdrawn from there; replace it on purpose with --replace --reason"):
        publish([again(one, 2.5)], root)
    publish([again(one, 2.5)], root, replace=True, reason="third", day=DAYS[2])
    found = read(root)
    assert [(event.correction.kind, event.correction.reason) for event in found.history] == [
        ("replaced", "first"),
        ("withdrawn", "second"),
        ("replaced", "third"),
    ]
    assert [event.after and event.after.training.seconds for event in found.history] == [1.5, None, 2.5]
    assert written.exists()


def test_corrections_of_one_day_stand_in_their_order(one, root):
    publish([one], root)
    for number in range(6):
        publish([again(one, 1.5 + number)], root, replace=True, reason=f"number {number}", day=DAYS[0])
    assert [event.correction.reason for event in read(root).history] == [f"number {number}" for number in range(6)]


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
    assert not (path.parent / FOLDER).exists()
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
    for odd in (path.parent / "seed7.json", kept(path, file_sha256(path))):
        with pytest.raises(PublishError, match="no published record"):
            withdraw(odd, reason=WHY)


class TestSpoilt:
    """What a hand or a bad merge does to a history is found and said in one line."""

    @pytest.fixture
    def path(self, one, root) -> Path:
        (path,) = publish([one], root)
        for number in (1, 2):
            publish([again(one, 1.5 + number)], root, replace=True, reason=f"number {number}", day=DAYS[number])
        return path

    def refused(self, root: Path, said: str) -> None:
        with pytest.raises(CorrectionError, match=said) as caught:
            read(root)
        assert "\n" not in str(caught.value)

    def old(self, path: Path, one: Record) -> tuple[Path, Path]:
        """The first record's kept file and its correction."""
        (correction,) = [
            file for file in (path.parent / FOLDER).glob("*.replaced.json") if "number 1" in file.read_text()
        ]
        digest = json.loads(correction.read_text())["old"]
        return kept(path, digest), place(path, digest, "replaced")

    def test_a_kept_record_that_was_edited(self, path, root, one):
        file, _ = self.old(path, one)
        file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
        self.refused(root, "the record it was made for, was edited; restore it from git")

    def test_a_kept_record_that_is_missing(self, path, root, one):
        self.old(path, one)[0].unlink()
        self.refused(root, "the record it was made for, is missing; restore it from git")

    def test_a_kept_record_without_its_correction(self, path, root, one):
        self.old(path, one)[1].unlink()
        self.refused(root, "no correction says why it was superseded")

    def test_a_gap_in_the_chain(self, path, root, one):
        for file in self.old(path, one):
            file.unlink()
        assert len(read(root).history) == 1  # the newest is whole in itself
        (last,) = (path.parent / FOLDER).glob("*.replaced.json")
        last.write_text(last.read_text().replace(file_sha256(path), "0" * 64))
        self.refused(root, "is not what its last correction put there")

    def test_two_lines_of_descent(self, path, root, one):
        extra = again(one, 9.0)
        raw = extra.dumps().encode()
        file = path.parent / FOLDER / "x.json"
        file.write_bytes(raw)
        digest = file_sha256(file)
        file.rename(kept(path, digest))
        plain = {"kind": "replaced", "record": path.name, "old": digest, "new": file_sha256(path), "date": "2026-12-01"}
        place(path, digest, "replaced").write_text(json.dumps(plain | {"reason": "merged by hand"}))
        self.refused(root, "no correction leads from what it supersedes to seed0.json")

    def test_a_circle(self, path, root, one):
        _, first = self.old(path, one)
        plain = json.loads(first.read_text())
        (second,) = [file for file in (path.parent / FOLDER).glob("*.replaced.json") if file != first]
        second.write_text(json.dumps(json.loads(second.read_text()) | {"new": plain["old"]}))
        self.refused(root, "its corrections go in a circle")

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
        ("change", "said"),
        [
            ({"reason": " "}, "not a valid correction: reason: .*in one line"),
            ({"reason": "two\nlines"}, "in one line"),
            ({"old": "abc"}, "not a valid correction: old"),
            ({"new": None}, "missing if it was withdrawn"),
            ({"kind": "forgotten"}, "not a valid correction: kind"),
            ({"kind": "withdrawn"}, "its name is not that of the seed0.json it says was withdrawn"),
            ({"record": "../seed0.json"}, "not a valid correction: record"),
            ({"record": "seed1.json"}, "its name is not that of the seed1.json"),
            ({"colour": "red"}, "not a valid correction: colour"),
            ({"date": "yesterday"}, "not a valid correction: date"),
        ],
    )
    def test_a_correction_that_fails_its_schema(self, path, root, one, change, said):
        _, file = self.old(path, one)
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        self.refused(root, f"{file.name}: .*{said}")

    def test_a_stray_file_and_a_correction_across_methods(self, path, root, one):
        stray = path.parent / FOLDER / "notes.txt"
        stray.write_text("mine")
        self.refused(root, "notes.txt: neither a superseded record nor a correction")
        stray.unlink()
        other = one.model_copy(update={"method": one.method.model_copy(update={"name": "mart"})})
        path.write_text(other.dumps())
        (last,) = [file for file in (path.parent / FOLDER).glob("*.replaced.json") if "number 2" in file.read_text()]
        last.write_text(json.dumps(json.loads(last.read_text()) | {"new": file_sha256(path)}))
        self.refused(root, "protocol, method or seed differ before and after")
