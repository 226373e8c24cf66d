"""Doing jobs: with doubles for trainer and evaluator, and with the real ones killed in the middle."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from advbench.benchmark import discovery
from advbench.benchmark.evaluation import evaluator
from advbench.benchmark.files import file_sha256
from advbench.benchmark.models import architectures, weight_files
from advbench.benchmark.protocol import Protocol, published
from advbench.benchmark.records.schema import Divergence, Passes, Record, TrainingRecord
from advbench.benchmark.records.shard_result import Cost, ShardResult
from advbench.benchmark.runs import perform as work
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.perform import WorkError, catalogue, perform
from advbench.benchmark.runs.plan import MethodRequest, Suite, plan
from advbench.benchmark.runs.run_folder import RunFolder
from advbench.benchmark.runs.store import Store
from advbench.benchmark.training import trainer

SHARD, IMAGES = 8, 20


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    digits = published()["digits-linf/1"]
    return dataclasses.replace(
        digits,
        name="mini/1",
        data=dataclasses.replace(digits.data, train_limit=256, test_limit=IMAGES),
        training=dataclasses.replace(digits.training, epochs=2),
        attacks=dataclasses.replace(digits.attacks, shard=SHARD),
    )


def spec_of(protocol: Protocol, name: str, seed: int = 0, teachers: dict[str, str] | None = None) -> RunSpec:
    return RunSpec(protocol, name, discovery.make(name).hyperparameters(), seed, teachers or {})


def evaluation(spec: RunSpec, family: str, shards: tuple[int, ...] = (), which: str = "best") -> Job:
    return Job("evaluate", spec, which, family, shards)


class Doubles:
    """A trainer and an evaluator that take no time and note what they were asked."""

    def __init__(self) -> None:
        self.trained: list[dict] = []
        self.attacked: list[tuple[str, int]] = []
        self.diverges: str = ""
        self.breaks_at: int | None = None

    def train(self, method, protocol, dataset, *, seed, folder, device, environment, teachers, teacher_records,
              on_epoch=None, on_batch=None):  # fmt: skip
        self.trained.append(
            {"method": method, "seed": seed, "folder": folder, "teachers": teachers, "records": teacher_records}
        )
        if self.diverges == "at once":
            best, names = None, ()
        else:
            best, names = 0, ("best",) if self.diverges else ("best", "last")
        for number, name in enumerate(names):
            torch.manual_seed(100 * len(self.trained) + number)
            net = architectures.build(protocol.network, num_classes=10, channels=1)
            weight_files.save_weights(net, folder / f"{name}.safetensors")
        (folder / "resume.pt").write_bytes(b"resume")
        return TrainingRecord(
            environment=environment, epochs=2, seconds=10.0, peak_memory_bytes=1, passes=Passes(forward=5), images=256,
            parameters_deployed=1, parameters_trained=1, selection="validation-pgd", best_epoch=best,
            teachers=teacher_records,
            diverged=Divergence(epoch=1, step=3, last_good_epoch=best) if self.diverges else None,
        )  # fmt: skip

    def evaluate_shard(self, network, x, y, *, first, family, protocol, seed, num_classes, peers):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        if self.breaks_at == first:
            raise RuntimeError("out of luck\nin two lines")
        self.attacked.append((family, first))
        right = (torch.arange(len(y)) % 2 == 0).numpy()
        return ShardResult(
            family=family, first=first, predictions=y.numpy(), columns={family: right},
            costs={family: Cost(1.5, Passes(forward=len(y)))}, settings={family: {"peers": sorted(peers)}},
        )  # fmt: skip


@pytest.fixture
def doubles(monkeypatch) -> Doubles:
    double = Doubles()
    monkeypatch.setattr(trainer, "train", double.train)
    monkeypatch.setattr(evaluator, "evaluate_shard", double.evaluate_shard)
    return double


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


class TestTraining:
    def test_a_run_is_trained_once(self, doubles, store, protocol):
        job = Job("train", spec_of(protocol, "trades", seed=2))
        assert [perform(job, store.root, device="cpu") for _ in range(3)] == ["done"] * 3
        (asked,) = doubles.trained
        folder = store.folder(job.run)
        assert (asked["seed"], asked["folder"], asked["method"]) == (2, folder.path, discovery.make("trades"))
        trained = folder.trained()
        assert {name: one.epoch for name, one in trained.checkpoints.items()} == {"best": 0, "last": 1}
        assert trained.checkpoints["last"].sha256 == file_sha256(folder.weights("last"))
        assert trained.data.test == IMAGES
        assert not list((folder.path / "locks").glob("train*"))

    def test_others_at_it_means_busy(self, doubles, store, protocol):
        job = Job("train", spec_of(protocol, "trades"))
        folder = store.folder(job.run)
        folder.create()
        with folder.claim("train"):
            assert perform(job, store.root, device="cpu") == "busy"
        assert doubles.trained == []

    def test_what_is_missing_is_made_from_the_state_and_a_lost_best_from_the_start(self, doubles, store, protocol):
        job = Job("train", spec_of(protocol, "trades"))
        perform(job, store.root, device="cpu")
        folder = store.folder(job.run)
        folder.weights("best").write_bytes(b"short")
        seen = []

        def train(*args, **kwargs):
            seen.append(folder.resume.exists())
            if len(seen) == 1:
                raise trainer.LostBestError("gone")
            return doubles.train(*args, **kwargs)

        trainer.train = train
        assert perform(job, store.root, device="cpu") == "done"
        assert seen == [True, False]
        assert folder.trained() is not None

    def test_hyperparameters_of_another_time_are_refused(self, doubles, store, protocol):
        spec = spec_of(protocol, "trades")
        job = Job("train", dataclasses.replace(spec, hyperparameters={}))
        with pytest.raises(WorkError, match="other hyper-parameters than when this job was planned: plan again"):
            perform(job, store.root, device="cpu")

    def test_teachers_are_frozen_and_their_cost_is_added_up(self, doubles, store, protocol):
        student = next(name for name in discovery.names() if discovery.load(name).requires)
        ((role, name), *_) = discovery.load(student).requires.items()
        roles = discovery.load(student).requires
        teachers = {one: spec_of(protocol, method) for one, method in roles.items()}
        for spec in teachers.values():
            perform(Job("train", spec), store.root, device="cpu")
        spec = spec_of(protocol, student, teachers={one: teacher.id for one, teacher in teachers.items()})
        perform(Job("train", spec), store.root, device="cpu")
        asked = doubles.trained[-1]
        network = asked["teachers"][role]
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        record = asked["records"][role]
        folder = store.folder(teachers[role])
        assert (record.method, record.run, record.seconds) == (name, folder.id, 10.0)
        assert record.sha256 == file_sha256(folder.weights("best"))
        assert folder.trained().training.seconds + record.seconds == 20.0

    def test_a_missing_teacher_is_one_line(self, doubles, store, protocol):
        job = Job("train", spec_of(protocol, "ard", teachers={"robust": "0" * 16}))
        with pytest.raises(WorkError, match="needs run 0000000000000000 as a teacher"):
            perform(job, store.root, device="cpu")

    def test_a_diverged_run_is_finished_and_recorded(self, doubles, store, protocol):
        doubles.diverges = "at once"
        spec = spec_of(protocol, "trades")
        assert perform(Job("train", spec), store.root, device="cpu") == "done"
        for which in ("best", "last"):
            assert perform(evaluation(spec, "cw", (0,), which), store.root, device="cpu") == "done"
        assert doubles.attacked == []
        record = Record.load(store.folder(spec).record_path)
        assert record.training.diverged.epoch == 1
        assert record.checkpoints == {}
        assert perform(Job("train", spec), store.root, device="cpu") == "done"
        assert len(doubles.trained) == 1


class TestEvaluation:
    @pytest.fixture
    def spec(self, doubles, store, protocol) -> RunSpec:
        spec = spec_of(protocol, "pgd_at")
        perform(Job("train", spec), store.root, device="cpu")
        return spec

    def test_shards_cover_the_test_set_once(self, doubles, store, spec):
        said = []
        assert perform(evaluation(spec, "cw"), store.root, device="cpu", on_progress=said.append) == "done"
        assert perform(evaluation(spec, "cw", (0, 1, 2)), store.root, device="cpu") == "done"
        assert doubles.attacked == [("cw", 0), ("cw", 8), ("cw", 16)]
        assert [(one.done, one.total, one.unit) for one in said] == [(number, 3, "shard") for number in range(4)]
        folder = store.folder(spec)
        assert [shard.result.n for shard in folder.shards("best", "cw", folder.trained()).values()] == [8, 8, 4]
        assert not list((folder.path / "locks").glob("best*"))

    def test_only_what_is_missing_is_attacked(self, doubles, store, spec):
        perform(evaluation(spec, "cw", (1,)), store.root, device="cpu")
        perform(evaluation(spec, "cw", (0, 1, 2, 77)), store.root, device="cpu")
        assert doubles.attacked == [("cw", 8), ("cw", 0), ("cw", 16)]

    def test_a_shard_that_others_hold_is_left_to_them(self, doubles, store, spec):
        folder = store.folder(spec)
        with folder.claim(folder.work_key("best", "cw", 1, folder.trained())):
            assert perform(evaluation(spec, "cw"), store.root, device="cpu") == "busy"
        assert doubles.attacked == [("cw", 0), ("cw", 16)]
        assert perform(evaluation(spec, "cw"), store.root, device="cpu") == "done"
        assert doubles.attacked[2:] == [("cw", 8)]

    def test_a_torn_result_is_attacked_again(self, doubles, store, spec):
        perform(evaluation(spec, "cw"), store.root, device="cpu")
        folder = store.folder(spec)
        journal = folder.journal("best", "cw", folder.trained())
        raw = journal.read_bytes()
        journal.write_bytes(raw[: len(raw) - 40])
        perform(evaluation(spec, "cw"), store.root, device="cpu")
        assert doubles.attacked[3:] == [("cw", 16)]

    def test_the_record_is_there_and_grows(self, doubles, store, spec):
        folder = store.folder(spec)
        perform(evaluation(spec, "cw", (0, 1)), store.root, device="cpu")
        assert folder.record().checkpoints["best"].evaluation.columns == {}
        for family in ("cw", "clean"):
            perform(evaluation(spec, family), store.root, device="cpu")
        record = folder.record()
        assert set(record.checkpoints["best"].evaluation.columns) == {"clean", "cw"}
        outcomes = record.checkpoints["best"].evaluation.columns["cw"]
        assert outcomes.n == IMAGES
        assert outcomes.correct.tolist() == [True, False] * 10
        assert outcomes.seconds == 4.5
        assert outcomes.environment.device == "cpu"
        assert (record.run, record.method.name, record.data.test) == (spec.id, "pgd_at", IMAGES)
        assert record.official is False
        assert {flag.name: flag.state for flag in record.checkpoints["best"].evaluation.flags}[
            "test-set-incomplete"
        ] == "raised"

    def test_weights_that_were_edited_are_noticed_before_the_attack(self, doubles, store, spec):
        folder = store.folder(spec)
        raw = bytearray(folder.weights("best").read_bytes())
        raw[-1] ^= 1
        folder.weights("best").write_bytes(raw)
        folder.finish_training(folder.training_json())  # as if bits had turned on the disk, unknown to the file system
        os.utime(folder.path / "training.json", (time.time() + 9, time.time() + 9))
        with pytest.raises(WorkError, match="is not what training wrote"):
            perform(evaluation(spec, "cw"), store.root, device="cpu")
        assert doubles.attacked == []
        suite = Suite((spec.protocol,), (MethodRequest("pgd_at"),), (0,))
        assert plan(suite, store, catalogue())[0].kind == "train"

    def test_an_untrained_run_is_one_line(self, doubles, store, protocol):
        with pytest.raises(WorkError, match="trades seed 0 is not trained yet: train it first"):
            perform(evaluation(spec_of(protocol, "trades"), "cw"), store.root, device="cpu")

    def test_other_data_than_those_of_the_training_are_refused(self, doubles, store, spec):
        folder = store.folder(spec)
        trained = folder.trained()
        folder.finish_training(
            trained.model_copy(update={"data": trained.data.model_copy(update={"digest": "0" * 64})})
        )
        with pytest.raises(WorkError, match=r"the data here .* are not those of the training"):
            perform(evaluation(spec, "cw"), store.root, device="cpu")

    def test_no_code_of_a_method_is_asked_for(self, doubles, store, spec, monkeypatch):
        def refuse(*_):
            raise AssertionError("a method was loaded")

        for name in ("load", "make", "names"):
            monkeypatch.setattr(discovery, name, refuse)
        assert perform(evaluation(spec, "cw"), store.root, device="cpu") == "done"

    def test_the_examination_gets_the_peers_but_not_the_run_itself(self, doubles, store, spec, protocol):
        other = spec_of(protocol, "standard")
        variant = dataclasses.replace(spec_of(protocol, "standard", seed=1))
        for one in (other, variant):
            perform(Job("train", one), store.root, device="cpu")
        asked = {}
        for one in (spec, other, variant):
            perform(evaluation(one, "examination", (0,)), store.root, device="cpu")
            folder = store.folder(one)
            shard = folder.shards("best", "examination", folder.trained())[0]
            asked[one.id] = [name.split()[0] for name in shard.result.settings["examination"]["peers"]]
        assert asked == {spec.id: ["standard"], other.id: ["pgd_at"], variant.id: ["pgd_at", "standard"]}


class TestFailure:
    def test_a_failure_has_one_line_a_log_and_an_end(self, doubles, store, protocol):
        spec = spec_of(protocol, "trades")
        perform(Job("train", spec), store.root, device="cpu")
        doubles.breaks_at = 8
        job = evaluation(spec, "cw", (0, 1, 2))
        with pytest.raises(WorkError, match="out of luck in two lines") as raised:
            perform(job, store.root, device="cpu")
        assert "\n" not in str(raised.value)
        folder = store.folder(spec)
        (failure,) = folder.failures()
        assert failure.reason == "out of luck in two lines"
        assert "Traceback" in folder.log(job).read_text()
        assert doubles.attacked == [("cw", 0)]
        doubles.breaks_at = None
        assert perform(job, store.root, device="cpu") == "done"
        assert folder.scan().failures == ()
        assert doubles.attacked == [("cw", 0), ("cw", 8), ("cw", 16)]

    def test_a_stopped_job_is_no_failure(self, doubles, store, protocol, monkeypatch):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(trainer, "train", stop)
        spec = spec_of(protocol, "trades")
        with contextlib.suppress(KeyboardInterrupt):
            perform(Job("train", spec), store.root, device="cpu")
        assert store.folder(spec).failures() == ()
        assert store.folder(spec).scan().held == {}


KILLED = """
import os, sys, json, pathlib
from advbench.benchmark.evaluation import evaluator
from advbench.benchmark.runs import perform as work
from advbench.benchmark.runs.job import Job
job, root, where = Job.from_plain(json.loads(sys.argv[1])), sys.argv[2], float(sys.argv[3])
work._EVERY = 0.0
real = evaluator.evaluate_shard
def attack(*args, first, **kwargs):
    if first >= where: os.kill(os.getpid(), 9)
    return real(*args, first=first, **kwargs)
evaluator.evaluate_shard = attack
def report(progress):
    if progress.unit == "epoch" and progress.done >= where: os.kill(os.getpid(), 9)
work.perform(job, pathlib.Path(root), device="cpu", on_progress=report)
"""


def kill(job: Job, store: Store, where: float) -> None:
    """Do a job in a process that kills itself: at a part of an epoch, or at a test image."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), json.dumps(job.to_plain()), str(store.root), str(where)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr


def outcomes(folder: RunFolder) -> list:
    """What was measured, without what differs from time to time."""
    found = folder.shards("best", "pgd", folder.trained())
    return [
        (shard, one.checkpoint_sha256, one.result.to_plain()["columns"], one.passes) for shard, one in found.items()
    ]


def test_killed_and_resumed_is_the_same_to_the_bit(tmp_path, protocol):
    whole, killed = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    spec = spec_of(protocol, "pgd_at")
    train, attack = Job("train", spec), evaluation(spec, "pgd", (0, 1, 2))
    for job in (train, attack):
        assert perform(job, whole.root, device="cpu") == "done"

    kill(train, killed, 1.5)  # in the middle of the second epoch
    folder = killed.folder(spec)
    assert folder.resume.exists()
    assert folder.trained() is None
    assert folder.scan().held == {}
    assert perform(train, killed.root, device="cpu") == "done"
    assert "resumes at epoch 1" in folder.log(train).read_text()
    assert folder.trained().checkpoints == whole.folder(spec).trained().checkpoints

    kill(attack, killed, 8)  # in the second of three shards
    assert folder.finished("best", "pgd", folder.trained()) == {0}
    first = folder.shards("best", "pgd", folder.trained())[0]
    assert perform(attack, killed.root, device="cpu") == "done"
    again = folder.shards("best", "pgd", folder.trained())[0]
    assert again.model_dump(mode="json") == first.model_dump(mode="json")
    assert outcomes(folder) == outcomes(whole.folder(spec))
    assert len(outcomes(folder)) == 3
    bits = [
        store.folder(spec).record().checkpoints["best"].evaluation.columns["pgd100"].bits for store in (whole, killed)
    ]
    assert bits[0] == bits[1]
    assert work.build_record(folder).checkpoints == folder.record().checkpoints
