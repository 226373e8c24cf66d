"""The store: whatever is torn, edited or of other weights counts as missing; locks die with their holder."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from advbench.benchmark import files
from advbench.benchmark.protocol import published
from advbench.benchmark.records.schema import (
    DataProvenance,
    Environment,
    MethodIdentity,
    Passes,
    TrainingRecord,
)
from advbench.benchmark.records.shard_result import ShardResult
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.run_folder import MeasuredShard, Trained, Weights
from advbench.benchmark.runs.store import RunFolder, Store, StoreError, default_root

SHA = "5" * 64
ENVIRONMENT = Environment(advbench="0", python="3", libraries={}, device="cpu", cpu="c", threads=1, precision="fp32")


def spec(seed: int = 0, **hyperparameters) -> RunSpec:
    return RunSpec(published()["digits-linf/1"], "trades", {"beta": 6.0, **hyperparameters}, seed)


def trained_in(folder: RunFolder, best: bytes = b"best", last: bytes | None = b"last") -> Trained:
    """Make the folder say that training is done."""
    folder.create()
    checkpoints = {}
    for name, epoch, raw in (("best", 3, best), ("last", 11, last)):
        if raw is not None:
            folder.weights(name).write_bytes(raw)
            checkpoints[name] = Weights(epoch=epoch, sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))
    trained = Trained(
        method=MethodIdentity(
            name="trades", label="TRADES", hyperparameters={"beta": 6.0}, family="regularised", title="t", authors="a",
            venue="v", year=2019, url="u", key="k", robust=True,
        ),
        data=DataProvenance(
            name="digits", source="s", verified=True, digest=SHA, train=1497, validation=200, test=100,
            split_sha256=SHA, num_classes=10,
        ),
        training=TrainingRecord(
            environment=ENVIRONMENT, epochs=12, seconds=9.0, peak_memory_bytes=1, passes=Passes(forward=7), images=1,
            parameters_deployed=1, parameters_trained=1, selection="validation-pgd", best_epoch=3,
        ),
        checkpoints=checkpoints,
    )  # fmt: skip
    folder.finish_training(trained)
    return trained


def measured(shard: int, sha256: str, seconds: float = 1.0) -> MeasuredShard:
    return MeasuredShard(
        shard=shard,
        checkpoint_sha256=sha256,
        environment=ENVIRONMENT,
        seconds=seconds,
        passes=Passes(forward=2, input_gradient=3, weight_gradient=5),
        result=ShardResult("pgd", shard, np.zeros(shard, np.int64)),
    )


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return Store(tmp_path).folder(spec())


class TestSealing:
    def test_a_sealed_file_is_json_whose_checksum_is_of_its_payload(self, tmp_path):
        files.write_sealed(tmp_path / "a.json", {"x": [1, "ü"]})
        plain = json.loads((tmp_path / "a.json").read_bytes())
        assert plain["payload"] == {"x": [1, "ü"]} == files.read_sealed(tmp_path / "a.json")
        assert plain["sha256"] == hashlib.sha256(b'{"x":[1,"\\u00fc"]}').hexdigest()

    @pytest.mark.parametrize("cut", [0, 1, 40, 76, 90, -3])
    def test_every_cut_is_noticed(self, cut):
        raw = files.seal({"accuracy": 0.5, "more": list(range(20))})
        with pytest.raises(files.TornError, match="torn or edited"):
            files.unseal(raw[:cut], "file")

    def test_an_edit_is_noticed(self):
        raw = files.seal({"accuracy": 0.5})
        with pytest.raises(files.TornError, match=r"^file: torn or edited"):
            files.unseal(raw.replace(b"0.5", b"0.9"), "file")

    def test_numbers_that_are_not_finite_are_refused(self):
        with pytest.raises(ValueError, match="not JSON compliant"):
            files.seal({"loss": float("nan")})

    def test_a_failed_write_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        files.write_sealed(tmp_path / "a.json", 1)
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            files.write_sealed(tmp_path / "a.json", 2)
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
        assert files.read_sealed(tmp_path / "a.json") == 1

    def test_a_journal_survives_a_torn_line_in_the_middle(self, tmp_path, caplog):
        path = tmp_path / "a.jsonl"
        files.append_sealed(path, "first")
        with path.open("ab") as handle:
            handle.write(files.seal("second")[:50])  # killed while writing
        files.append_sealed(path, "third")
        assert list(files.sealed_entries(path)) == ["first", "third"]
        assert "line 2" in caplog.text

    def test_what_is_not_wanted_of_entries_is_not_parsed_but_still_tested(self, tmp_path):
        path = tmp_path / "journal.jsonl"
        plain = [{"a": {"z": 1}, "z": [1]}, {"a": ',"z":', "z": 2}, {"a": {"b": 1, "z": 2}, "z": 3}, {"a": 4}]
        for entry in plain:
            files.append_sealed(path, entry)
        heads = [{"a": {"z": 1}}, {"a": ',"z":'}, plain[2], {"a": 4}]  # the third is parsed whole: "z" stands deeper
        assert list(files.sealed_entries(path, without="z")) == heads
        path.write_bytes(path.read_bytes().replace(b"[1]", b"[2]"))
        assert list(files.sealed_entries(path, without="z")) == heads[1:]


class TestFolders:
    def test_the_folder_is_named_by_protocol_method_seed_and_identity(self, folder, tmp_path):
        assert folder.path == tmp_path / "digits-linf-1" / f"trades-s0-{spec().id}"

    def test_another_hyperparameter_seed_or_teacher_is_another_folder(self, tmp_path):
        store = Store(tmp_path)
        specs = [spec(), spec(beta=3.0), spec(seed=1), dataclasses.replace(spec(), teachers={"robust": "ab"})]
        assert len({store.folder(one).path for one in specs}) == 4

    @pytest.mark.parametrize("name", ["../up", "a b", "", "..", ".hidden"])
    def test_names_that_leave_the_store_are_refused(self, tmp_path, name):
        protocol = dataclasses.replace(published()["digits-linf/1"], name=name.replace("/", "-") or "-")
        with pytest.raises(StoreError, match="cannot name a folder"):
            Store(tmp_path).folder(dataclasses.replace(spec(), method=name))
        with pytest.raises(StoreError, match="cannot name a folder"):
            Store(tmp_path).folder(dataclasses.replace(spec(), protocol=protocol))

    def test_a_run_is_found_by_the_beginning_of_its_identity(self, folder, tmp_path):
        folder.create()
        found = Store(tmp_path).find(spec().id[:5])
        assert found.path == folder.path
        assert found.spec == spec()
        with pytest.raises(StoreError, match="no run 'zz'"):
            Store(tmp_path).find("zz")

    def test_run_json_is_written_again_when_torn(self, folder, tmp_path):
        folder.create()
        path = folder.path / "run.json"
        path.write_bytes(path.read_bytes()[:99])
        with pytest.raises(StoreError, match="torn or edited"):
            _ = RunFolder(folder.path, folder.id).spec
        folder.create()
        assert RunFolder(folder.path, folder.id).spec == spec()

    def test_a_folder_renamed_to_another_run_is_refused(self, folder):
        folder.create()
        other = RunFolder(folder.path, "0" * 16)
        with pytest.raises(StoreError, match="belongs to run"):
            _ = other.spec

    def test_strangers_in_the_store_are_passed_over(self, folder, tmp_path):
        folder.create()
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "digits-linf-1" / "my-plots").mkdir()
        (tmp_path / "link").symlink_to(folder.path.parent)
        assert [one.path for one in Store(tmp_path).folders()] == [folder.path]

    def test_a_place_that_cannot_be_written_is_one_line(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match=r"cannot be written \(.*\); point \$ADVBENCH_STORE elsewhere"):
            Store(tmp_path / "file").folder(spec()).create()

    def test_the_default_place_can_be_set(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ADVBENCH_STORE", str(tmp_path))
        assert default_root() == tmp_path
        monkeypatch.delenv("ADVBENCH_STORE")
        assert str(default_root()) == "runs"


class TestTraining:
    def test_training_is_done_when_training_json_says_so(self, folder):
        assert folder.trained() is None
        trained = trained_in(folder)
        assert folder.trained() == trained
        assert folder.scan().trained == trained

    @pytest.mark.parametrize("harm", ["edited", "torn", "weights gone", "weights short", "one bit"])
    def test_what_is_not_whole_is_not_trained(self, folder, harm):
        trained_in(folder)
        path = folder.path / "training.json"
        if harm == "edited":
            path.write_bytes(path.read_bytes().replace(b'"epochs":12', b'"epochs":99'))
        elif harm == "torn":
            path.write_bytes(path.read_bytes()[:-30])
        elif harm == "weights gone":
            folder.weights("last").unlink()
        elif harm == "one bit":
            folder.weights("best").write_bytes(b"cest")
        else:
            folder.weights("best").write_bytes(b"be")
        assert folder.trained() is None
        assert folder.scan().trained is None

    def test_weights_are_read_again_only_if_they_were_touched(self, folder, monkeypatch):
        read = []
        monkeypatch.setattr(files, "file_sha256", lambda path: read.append(path.name) or SHA)
        trained_in(folder)
        os.utime(folder.path / "training.json", (time.time() + 9, time.time() + 9))
        assert folder.trained() is not None
        assert read == []
        os.utime(folder.path / "training.json", (0, 0))  # as a copy of the store may have it
        assert folder.trained() is None
        assert read == ["best.safetensors"]

    def test_a_run_that_diverged_needs_no_weights(self, folder):
        trained = trained_in(folder, last=None)
        assert set(trained.checkpoints) == {"best"}
        assert folder.trained() == trained

    def test_forgetting_removes_the_state_it_would_resume_from(self, folder):
        trained_in(folder)
        for name in ("resume.pt", "resume-older.pt"):
            (folder.path / name).write_bytes(b"x")
        folder.forget_training()
        assert folder.trained() is None
        assert folder.resumes() == []


class TestShards:
    def test_results_come_back_in_order(self, folder):
        trained = trained_in(folder)
        sha256 = trained.checkpoints["best"].sha256
        for shard in (2, 0, 1):
            folder.add_shard("best", "pgd", measured(shard, sha256), trained)
        assert list(folder.shards("best", "pgd", trained)) == [0, 1, 2]
        assert folder.finished("last", "pgd", trained) == frozenset()
        cost = folder.scan().shards["best", "pgd"][1]
        assert (cost.seconds, cost.forwards) == (1.0, 2 + 3 + 2 * 5)

    def test_a_result_of_other_weights_is_missing(self, folder):
        trained = trained_in(folder)
        folder.add_shard("best", "cw", measured(0, trained.checkpoints["best"].sha256), trained)
        retrained = trained_in(folder, best=b"other")
        assert folder.finished("best", "cw", retrained) == frozenset()

    def test_an_edited_result_is_missing_and_the_others_stay(self, folder):
        trained = trained_in(folder)
        for shard in range(3):
            folder.add_shard("best", "cw", measured(shard, trained.checkpoints["best"].sha256), trained)
        path = folder.journal("best", "cw", trained)
        path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":9'))
        assert folder.finished("best", "cw", trained) == {0, 2}

    @pytest.mark.parametrize("change", [{"shard": None}, {"passes": []}, {"seconds": "x"}, {"checkpoint_sha256": None}])
    def test_a_sealed_entry_of_another_shape_is_missing(self, folder, change):
        trained = trained_in(folder)
        entry = measured(1, trained.checkpoints["best"].sha256).model_dump(mode="json")
        changed = {key: value for key, value in {**entry, **change}.items() if value is not None}
        folder.add_shard("best", "cw", measured(0, trained.checkpoints["best"].sha256), trained)
        for odd in (changed, [], 1, None):
            files.append_sealed(folder.journal("best", "cw", trained), odd)
        assert folder.finished("best", "cw", trained) == {0}
        assert list(folder.shards("best", "cw", trained)) == [0]
        assert list(folder.scan().shards["best", "cw"]) == [0]

    def test_a_result_that_cannot_be_read_is_one_line(self, folder):
        trained = trained_in(folder)
        entry = measured(0, trained.checkpoints["best"].sha256).model_dump(mode="json")
        files.append_sealed(folder.journal("best", "cw", trained), {**entry, "environment": 3})
        with pytest.raises(StoreError, match=r"cw\.jsonl: environment: .*; remove the file to attack again"):
            folder.shards("best", "cw", trained)

    def test_what_is_no_result_is_one_line_naming_the_journal(self, folder):
        trained = trained_in(folder)
        entry = measured(0, trained.checkpoints["best"].sha256).model_dump(mode="json")
        files.append_sealed(folder.journal("best", "cw", trained), entry | {"result": {"n": 3}})
        with pytest.raises(StoreError, match=r"cw\.jsonl: result: shard result: not readable") as caught:
            folder.shards("best", "cw", trained)
        assert "\n" not in str(caught.value)

    def test_a_result_that_was_done_again_counts(self, folder):
        trained = trained_in(folder)
        for seconds in (1.0, 2.0):
            folder.add_shard("best", "cw", measured(0, trained.checkpoints["best"].sha256, seconds), trained)
        assert folder.shards("best", "cw", trained)[0].seconds == 2.0

    def test_last_is_not_attacked_again_where_it_is_best(self, folder):
        trained = trained_in(folder, best=b"same", last=b"same")
        folder.add_shard("best", "cw", measured(0, trained.checkpoints["best"].sha256), trained)
        assert folder.finished("last", "cw", trained) == {0}
        assert folder.work_key("last", "cw", 0, trained) == folder.work_key("best", "cw", 0, trained)


class TestLocks:
    def test_one_at_a_time(self, folder):
        folder.create()
        with folder.claim("train") as first, folder.claim("train") as second, folder.claim("best-cw-0") as other:
            assert (first, second, other) == (True, False, True)
            assert set(folder.scan().held) == {"train", "best-cw-0"}
            assert f"process {os.getpid()} on" in folder.scan().held["train"]
        assert folder.scan().held == {}
        with folder.claim("train") as again:
            assert again

    def test_a_lock_is_free_when_its_holder_is_killed(self, folder):
        folder.create()
        code = (
            "import sys, time; from pathlib import Path; from advbench.benchmark.runs.store import RunFolder\n"
            f"with RunFolder(Path({str(folder.path)!r}), 'x').claim('train') as free: print(free, flush=True); "
            "time.sleep(60)"
        )
        holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        try:
            assert holder.stdout.readline() == b"True\n"
            with folder.claim("train") as free:
                assert not free
            assert f"process {holder.pid} on" in folder.scan().held["train"]
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            holder.stdout.close()
        assert folder.scan().held == {}
        with folder.claim("train") as free:
            assert free

    def test_looking_does_not_keep_a_worker_out(self, folder):
        folder.create()
        with folder.claim("train"):
            pass
        code = (
            "from pathlib import Path; from advbench.benchmark.runs.store import RunFolder\n"
            f"folder = RunFolder(Path({str(folder.path)!r}), 'x')\nprint('on', flush=True)\nwhile True: folder.scan()"
        )
        looker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        try:
            looker.stdout.readline()
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                with folder.claim("train") as free:
                    assert free
        finally:
            looker.kill()
            looker.wait()
            looker.stdout.close()

    def test_the_lock_file_of_finished_work_goes(self, folder):
        folder.create()
        with folder.claim("train"):
            folder.retire("train")
        assert list((folder.path / "locks").iterdir()) == []


class TestFailures:
    JOB = Job("evaluate", spec(), "best", "cw", (0, 1))

    def test_work_that_other_jobs_did_since_is_no_failure(self, folder):
        trained = trained_in(folder)
        folder.fail(self.JOB, "killed")
        folder.fail(Job("train", spec()), "killed")
        folder.fail(Job("evaluate", spec(), "best", "cw"), "killed before the size of the test set was known")
        for shard, left in ((0, 2), (1, 1)):  # 100 images are one shard here, so the last of them is made up for first
            assert [failure.kind for failure in folder.scan().failures] == ["evaluate"] * left
            folder.add_shard("best", "cw", measured(shard, trained.checkpoints["best"].sha256), trained)
        assert folder.scan().failures == ()

    def test_a_failure_says_why_and_where_its_log_is(self, folder):
        folder.create()
        folder.fail(self.JOB, "out of memory")
        (failure,) = folder.scan().failures
        assert (failure.reason, failure.log) == ("out of memory", str(folder.log(self.JOB)))
