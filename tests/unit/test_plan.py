"""Planning, status, estimates, pruning and publishing, on made-up stores without torch."""

import dataclasses
import hashlib
import subprocess
import sys
import time

import pytest

from advbench.benchmark import estimate, prune, sealed
from advbench.benchmark.jobs import CHECKPOINTS, FAMILIES, Job, RunSpec
from advbench.benchmark.plan import MethodFacts, MethodRequest, PlanError, Suite, complete, plan, runs, sizes, survey
from advbench.benchmark.protocol import published
from advbench.benchmark.publish import PublishError, destination, publish, variant
from advbench.benchmark.records import (
    Checkpoint,
    DataProvenance,
    Divergence,
    Environment,
    Evaluation,
    MethodIdentity,
    Outcomes,
    Passes,
    Record,
    TrainingRecord,
)
from advbench.benchmark.runfolder import Measured, RunFolder, Trained, Weights
from advbench.benchmark.status import status
from advbench.benchmark.store import Store

DIGITS = published()["digits-linf/1"]
CIFAR = published()["cifar10-linf/1"]
CATALOGUE = {
    "standard": MethodFacts({}, {}, 3.0),
    "pgd_at": MethodFacts({"gamma": 1.0}, {}, 23.0),
    "trades": MethodFacts({"beta": 6.0, "rounds": 2, "soft": False, "mode": "a"}, {}, 27.0),
    "distilled": MethodFacts({"beta": 1.0}, {"clean": "standard", "robust": "pgd_at"}, None),
    "chained": MethodFacts({}, {"robust": "distilled"}),
    "egg": MethodFacts({}, {"parent": "hen"}),
    "hen": MethodFacts({}, {"parent": "egg"}),
}
SHA = "5" * 64
ENVIRONMENT = Environment(advbench="0", python="3", libraries={}, device="cpu", cpu="c", threads=1, precision="fp32")


def suite(*methods: str, protocols=(DIGITS,), seeds=(0,)) -> Suite:
    return Suite(tuple(protocols), tuple(MethodRequest(name) for name in methods), seeds)


def folder_of(store: Store, suite: Suite, name: str) -> RunFolder:
    return next(store.folder(run.spec) for run in runs(suite, CATALOGUE) if run.spec.method == name)


def train(folder: RunFolder, *, test: int = 100, diverged: bool = False, checkpoints=CHECKPOINTS) -> Trained:
    folder.create()
    weights = {}
    for number, name in enumerate(checkpoints):
        folder.weights(name).write_bytes(name.encode() * 50)
        digest = hashlib.sha256(folder.weights(name).read_bytes()).hexdigest()
        weights[name] = Weights(epoch=number, sha256=digest, bytes=200)
    trained = Trained(
        method=MethodIdentity(
            name=folder.spec.method, label="M", hyperparameters=folder.spec.hyperparameters, family="f", title="t",
            authors="a", venue="v", year=2019, url="u", key="k", robust=True,
        ),
        data=DataProvenance(
            name="digits", source="s", verified=True, digest=SHA, train=1497, validation=200, test=test,
            split_sha256=SHA, num_classes=10,
        ),
        training=TrainingRecord(
            environment=ENVIRONMENT, epochs=12, seconds=60.0, peak_memory_bytes=1, passes=Passes(forward=600),
            images=1, parameters_deployed=1, parameters_trained=1, selection="s", best_epoch=0,
            diverged=Divergence(epoch=3, step=40, last_good_epoch=2) if diverged else None,
        ),
        checkpoints=weights,
    )  # fmt: skip
    folder.finish_training(trained)
    return trained


def attack(folder: RunFolder, trained: Trained, family: str, shards=(0,), checkpoints=CHECKPOINTS) -> None:
    for checkpoint in checkpoints:
        for shard in shards:
            one = Measured(
                shard=shard, checkpoint_sha256=trained.checkpoints[checkpoint].sha256, environment=ENVIRONMENT,
                seconds=4.0, passes=Passes(forward=40), result={},
            )  # fmt: skip
            folder.add_shard(checkpoint, family, one, trained)


def finish(store: Store, suite: Suite) -> None:
    for run in runs(suite, CATALOGUE):
        folder = store.folder(run.spec)
        trained = train(folder)
        for family in FAMILIES if run.evaluated else ():
            attack(folder, trained, family)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


def test_planning_needs_no_torch():
    code = (
        "import sys, advbench.benchmark.plan, advbench.benchmark.status, advbench.benchmark.prune, "
        "advbench.benchmark.publish, advbench.benchmark.estimate, advbench.benchmark.executors.local, "
        "advbench.benchmark.executors.worker; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestRuns:
    def test_a_suite_is_its_product(self):
        found = runs(suite("standard", "trades", protocols=(DIGITS, CIFAR), seeds=(0, 1)), CATALOGUE)
        assert [(run.spec.protocol.name, run.spec.seed, run.spec.method) for run in found] == [
            (protocol.name, seed, method)
            for protocol in (DIGITS, CIFAR)
            for seed in (0, 1)
            for method in ("standard", "trades")
        ]
        assert all(run.evaluated and run.id == run.spec.id for run in found)

    def test_without_seeds_the_protocol_has_them(self):
        assert [run.spec.seed for run in runs(suite("standard", seeds=()), CATALOGUE)] == [0, 1, 2]

    def test_teachers_come_first_with_the_students_seed_and_only_to_be_trained(self):
        teacher_clean, teacher_robust, student = runs(suite("distilled", seeds=(2,)), CATALOGUE)
        assert [one.spec.method for one in (teacher_clean, teacher_robust, student)] == [
            "standard",
            "pgd_at",
            "distilled",
        ]
        assert {one.spec.seed for one in (teacher_clean, teacher_robust, student)} == {2}
        assert student.spec.teachers == {"clean": teacher_clean.id, "robust": teacher_robust.id}
        assert [one.evaluated for one in (teacher_clean, teacher_robust, student)] == [False, False, True]

    @pytest.mark.parametrize("order", [("pgd_at", "distilled"), ("distilled", "pgd_at")])
    def test_a_teacher_that_is_a_row_is_one_run_and_evaluated(self, order):
        found = {run.spec.method: run for run in runs(suite(*order), CATALOGUE)}
        assert {name: run.evaluated for name, run in found.items()} == {
            "standard": False,
            "pgd_at": True,
            "distilled": True,
        }

    def test_a_variant_of_a_teacher_does_not_teach(self):
        rows = (MethodRequest("pgd_at", {"gamma": 2.0}), MethodRequest("distilled"))
        found = runs(Suite((DIGITS,), rows, (0,)), CATALOGUE)
        assert [run.spec.hyperparameters.get("gamma") for run in found if run.spec.method == "pgd_at"] == [2.0, 1.0]
        assert [run.evaluated for run in found if run.spec.method == "pgd_at"] == [True, False]

    def test_teachers_of_teachers(self):
        assert [run.spec.method for run in runs(suite("chained"), CATALOGUE)] == [
            "standard",
            "pgd_at",
            "distilled",
            "chained",
        ]

    def test_teachers_that_need_each_other_are_refused(self):
        with pytest.raises(PlanError, match="egg → hen → egg"):
            runs(suite("egg"), CATALOGUE)


class TestHyperparameters:
    def test_an_integer_for_a_float_names_the_same_run(self):
        values = complete("trades", {"beta": 3}, CATALOGUE)
        assert values == {"beta": 3.0, "rounds": 2, "soft": False, "mode": "a"}
        assert type(values["beta"]) is float

    @pytest.mark.parametrize(
        ("name", "changed", "message"),
        [
            ("tardes", {}, "no method 'tardes'; there are: chained, distilled"),
            ("trades", {"betta": 1.0}, "trades has no hyper-parameter 'betta'; it has: beta, rounds"),
            ("standard", {"beta": 1.0}, "it has: none"),
            ("trades", {"beta": "six"}, "trades.beta must be of type float"),
            ("trades", {"rounds": 2.5}, "must be of type int"),
            ("trades", {"rounds": True}, "must be of type int"),
            ("trades", {"soft": 1}, "must be of type bool"),
        ],
    )
    def test_mistakes_are_one_line(self, name, changed, message):
        with pytest.raises(PlanError) as raised:
            complete(name, changed, CATALOGUE)
        assert message in str(raised.value)


class TestPlan:
    def test_an_empty_store_needs_everything_training_first(self, store):
        jobs = plan(suite("standard", "trades"), store, CATALOGUE)
        assert [job.kind for job in jobs] == ["train"] * 2 + ["evaluate"] * 2 * 2 * len(FAMILIES)
        assert jobs[2].family == FAMILIES[-1]
        assert all(job.after == (f"{job.run.id}-train",) for job in jobs if job.kind == "evaluate")
        assert len({job.id for job in jobs}) == len(jobs)

    def test_every_job_comes_after_those_it_needs(self, store):
        jobs = plan(suite("distilled", "pgd_at", seeds=(0, 1)), store, CATALOGUE)
        seen: set[str] = set()
        for job in jobs:
            assert set(job.after) <= seen
            seen.add(job.id)
        students = [job for job in jobs if job.kind == "train" and job.run.method == "distilled"]
        assert [len(job.after) for job in students] == [2, 2]
        assert not [job for job in jobs if job.kind == "evaluate" and job.run.method == "standard"]

    def test_what_is_done_is_not_planned_again(self, store):
        wanted = suite("standard", "distilled")
        finish(store, wanted)
        assert plan(wanted, store, CATALOGUE) == ()
        assert {standing.state for standing in survey(wanted, store, CATALOGUE)} == {"done"}

    def test_a_trained_teacher_holds_nobody_up(self, store):
        wanted = suite("distilled")
        for name in ("standard", "pgd_at"):
            train(folder_of(store, wanted, name))
        first = plan(wanted, store, CATALOGUE)[0]
        assert (first.run.method, first.kind, first.after) == ("distilled", "train", ())

    def test_only_missing_shards_are_planned(self, store):
        wanted = suite("trades", protocols=(CIFAR,))
        folder = folder_of(store, wanted, "trades")
        trained = train(folder, test=10_000)
        attack(folder, trained, "autoattack", shards=(0, 1, 7), checkpoints=("best",))
        (job,) = [
            job for job in plan(wanted, store, CATALOGUE) if (job.checkpoint, job.family) == ("best", "autoattack")
        ]
        assert job.shards == tuple(shard for shard in range(25) if shard not in {0, 1, 7})
        parts = [
            job.shards
            for job in plan(wanted, store, CATALOGUE, max_shards_per_job=10)
            if (job.checkpoint, job.family) == ("best", "autoattack")
        ]
        assert [len(part) for part in parts] == [10, 10, 2]
        assert sum(parts, ()) == job.shards

    def test_counts_of_shards_add_up_when_work_is_cut(self, store):
        wanted = suite("trades", protocols=(CIFAR,))
        folder = folder_of(store, wanted, "trades")
        attack(folder, train(folder, test=10_000), "cw", shards=range(5))
        for most in (None, 1, 7):
            found = [one for one in survey(wanted, store, CATALOGUE, max_shards_per_job=most) if one.job.family == "cw"]
            assert (sum(one.done for one in found), sum(one.total for one in found)) == (10, 50)

    def test_a_test_set_of_another_size_is_taken_as_it_is(self, store):
        wanted = suite("trades", protocols=(CIFAR,))
        train(folder_of(store, wanted, "trades"), test=401)
        assert {job.shards for job in plan(wanted, store, CATALOGUE)} == {(0, 1)}

    def test_data_of_unknown_size_is_attacked_whole(self, store):
        data = dataclasses.replace(CIFAR.data, name="my-own")
        jobs = plan(suite("trades", protocols=(dataclasses.replace(CIFAR, data=data),)), store, CATALOGUE)
        assert {job.shards for job in jobs if job.kind == "evaluate"} == {()}

    def test_retrained_weights_are_attacked_again(self, store):
        wanted = suite("standard")
        finish(store, wanted)
        folder = folder_of(store, wanted, "standard")
        trained = folder.trained()
        folder.finish_training(
            trained.model_copy(
                update={"checkpoints": {**trained.checkpoints, "last": Weights(epoch=1, sha256=SHA, bytes=200)}}
            )
        )
        jobs = plan(wanted, store, CATALOGUE)
        assert {(job.kind, job.checkpoint) for job in jobs} == {("evaluate", "last")}
        assert len(jobs) == len(FAMILIES)

    def test_a_torn_training_and_a_torn_result_are_done_again(self, store):
        wanted = suite("standard", "trades")
        finish(store, wanted)
        torn = folder_of(store, wanted, "standard").path / "training.json"
        torn.write_bytes(torn.read_bytes()[:-9])
        folder = folder_of(store, wanted, "trades")
        journal = folder.journal("best", "pgd", folder.trained())
        journal.write_bytes(journal.read_bytes()[:-9])
        redo = [job.label for job in plan(wanted, store, CATALOGUE) if job.run.method == "trades"]
        assert redo == ["pgd on best of digits-linf/1 trades seed 0"]
        assert plan(wanted, store, CATALOGUE)[0].label == "train digits-linf/1 standard seed 0"


class TestDivergence:
    def test_a_diverged_run_is_finished_and_its_networks_attacked_if_there_are(self, store):
        wanted = suite("standard", "trades")
        train(folder_of(store, wanted, "standard"), diverged=True, checkpoints=())
        train(folder_of(store, wanted, "trades"), diverged=True, checkpoints=("best",))
        jobs = plan(wanted, store, CATALOGUE)
        assert {(job.run.method, job.checkpoint) for job in jobs} == {("trades", "best")}

    def test_students_of_a_diverged_teacher_are_impossible_and_say_why(self, store):
        wanted = suite("chained")
        train(folder_of(store, wanted, "standard"), diverged=True, checkpoints=())
        found = {one.job.id: one for one in survey(wanted, store, CATALOGUE)}
        chained = next(one for one in found.values() if one.job.run.method == "chained" and one.job.kind == "train")
        assert (chained.state, chained.possible) == ("blocked", False)
        assert "standard seed 0 diverged before its first checkpoint" in chained.reason
        assert {job.run.method for job in plan(wanted, store, CATALOGUE)} == {"pgd_at"}


class TestStatus:
    def test_states(self, store):
        wanted = suite("standard", "pgd_at", "trades", "distilled")
        finish(store, suite("standard"))
        folder = folder_of(store, wanted, "pgd_at")
        folder.create()
        folder.fail(Job("train", folder.spec), "the loss was on fire")
        busy = folder_of(store, wanted, "trades")
        attack(busy, train(busy), "cw")
        with busy.claim("best-pgd-0"):
            found = status(store, wanted, CATALOGUE)
        by_name = {run.label.split()[1]: run for run in found.runs}
        assert {name: run.state for name, run in by_name.items()} == {
            "standard": "done",
            "pgd_at": "failed",
            "trades": "running",
            "distilled": "blocked",
        }
        assert by_name["pgd_at"].reasons[0] == "the loss was on fire"
        assert by_name["pgd_at"].logs == (str(folder.log(Job("train", folder.spec))),)
        assert (by_name["trades"].done, by_name["trades"].total) == (2, 2 * len(FAMILIES))
        assert not found.complete
        assert sum(found.counts.values()) == 4 * (1 + 2 * len(FAMILIES))
        assert found.counts["running"] == found.counts["failed"] == 1

    def test_done_is_complete(self, store):
        finish(store, suite("standard"))
        assert status(store, suite("standard"), CATALOGUE).complete

    def test_a_failed_attack_is_retried_and_forgotten_once_done(self, store):
        wanted = suite("standard")
        folder = folder_of(store, wanted, "standard")
        trained = train(folder)
        job = Job("evaluate", folder.spec, "best", "cw", (0,))
        folder.fail(job, "out of memory")
        failed = [one for one in survey(wanted, store, CATALOGUE) if one.state == "failed"]
        assert [(one.job.id, one.reason, one.log) for one in failed] == [
            (job.id, "out of memory", str(folder.log(job)))
        ]
        assert job.id in {one.id for one in plan(wanted, store, CATALOGUE)}
        attack(folder, trained, "cw")
        assert "failed" not in {one.state for one in survey(wanted, store, CATALOGUE)}


def test_a_large_suite_is_planned_in_seconds(store, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)
    catalogue = {f"method{number}": MethodFacts({"beta": 6.0}) for number in range(20)}
    wanted = Suite((CIFAR,), tuple(MethodRequest(name) for name in catalogue), (0, 1, 2))
    for run in runs(wanted, catalogue):
        folder = store.folder(run.spec)
        trained = train(folder, test=10_000)
        line = {"environment": ENVIRONMENT.model_dump(), "seconds": 1.0, "passes": Passes().model_dump()}
        for checkpoint, weights in trained.checkpoints.items():
            sealed_lines = b"".join(
                sealed.seal({**line, "shard": shard, "checkpoint_sha256": weights.sha256, "result": {"p": [3] * 400}})
                for shard in range(24)
            )
            folder.journal(checkpoint, "autoattack", trained).write_bytes(sealed_lines)
    began = time.process_time()
    jobs = plan(wanted, store, catalogue)
    seconds = time.process_time() - began
    assert len([job for job in jobs if job.family == "autoattack"]) == 120
    assert {job.shards for job in jobs if job.family == "autoattack"} == {(24,)}
    assert seconds < 3.0  # measured 0.2 s for 60 runs and 2,880 shards; 540 runs and 53,000 shards took 2.6 s


class TestEstimates:
    def test_known_sizes(self):
        assert sizes(DIGITS.data) == (1_497, 100)
        assert sizes(CIFAR.data) == (49_000, 10_000)
        assert sizes(dataclasses.replace(CIFAR.data, train_limit=500, test_limit=60)) == (500, 60)
        assert sizes(dataclasses.replace(CIFAR.data, name="mine")) is None

    def test_passes_of_training_and_attacks(self, store):
        by_kind = {(job.kind, job.family): job for job in plan(suite("pgd_at", protocols=(CIFAR,)), store, CATALOGUE)}
        assert estimate.passes(by_kind["train", None], CATALOGUE) == 200 * (49_000 * 23 + 1_000 * 22)
        assert estimate.passes(by_kind["evaluate", "pgd"], CATALOGUE) == 10_000 * 203
        assert estimate.passes(by_kind["evaluate", "autoattack"], CATALOGUE) == pytest.approx(48.6e6)

    def test_nothing_is_known_of_an_empty_store(self, store):
        jobs = plan(suite("trades"), store, CATALOGUE)
        total = estimate.total(jobs, CATALOGUE, estimate.history(store), estimate.Machine())
        assert (total.seconds, total.unknown, total.bytes) == ({}, len(jobs), None)

    def test_an_assumed_speed_is_said_to_be_assumed(self, store):
        machine = estimate.Machine({"smallcnn": 1e6}, 1e9, {"smallcnn": 1_000})
        jobs = plan(suite("trades"), store, CATALOGUE)
        total = estimate.total(jobs, CATALOGUE, estimate.history(store), machine)
        assert set(total.seconds) == {"assumed"}
        assert total.sum == pytest.approx(sum(estimate.passes(job, CATALOGUE) for job in jobs) / 1_000)
        assert (total.unknown, total.bytes) == (0, 16_000)

    def test_what_was_measured_goes_before_what_is_scaled_by_passes(self, store):
        finish(store, suite("trades"))
        known = estimate.history(store)
        jobs = plan(suite("trades", "standard", seeds=(1,)), store, CATALOGUE)
        found = {
            (job.run.method, job.kind, job.family): estimate.estimate(job, CATALOGUE, known, estimate.Machine())
            for job in jobs
        }
        assert found["trades", "train", None] == estimate.Estimate(60.0, "measured")
        assert found["standard", "evaluate", "cw"] == estimate.Estimate(4.0, "measured")
        scaled = found["standard", "train", None]
        assert scaled.basis == "scaled"
        assert scaled.seconds == pytest.approx(60 / 600 * 12 * (1_497 * 3 + 200 * 22))


class TestPrune:
    def test_nothing_goes_that_is_kept(self, store):
        finish(store, suite("standard", "distilled"))
        assert prune.find(store) == ()

    def test_resume_files_of_trained_runs_go_and_of_others_stay(self, store):
        wanted = suite("standard", "trades")
        finish(store, suite("standard"))
        done, going = (folder_of(store, wanted, name) for name in ("standard", "trades"))
        going.create()
        for folder in (done, going):
            folder.resume.write_bytes(b"x" * 1_000)
        (item,) = prune.find(store)
        assert (item.files, item.bytes, item.reason) == ((done.resume,), 1_000, "training is done")
        assert done.resume.exists()
        assert prune.remove([item]) == 1_000
        assert not done.resume.exists()
        assert going.resume.exists()
        assert plan(suite("standard"), store, CATALOGUE) == ()

    def test_runs_that_nothing_uses_go_whole_but_teachers_stay(self, store):
        finish(store, suite("distilled", "trades"))
        student = folder_of(store, suite("distilled"), "distilled")
        (item,) = prune.find(store, keep={student.id})
        assert (item.label, item.whole) == ("digits-linf/1 trades seed 0", True)
        assert prune.remove([item]) == item.bytes > 400
        assert not item.run.path.exists()
        assert plan(suite("distilled"), store, CATALOGUE) == ()

    def test_what_is_not_ours_stays(self, store, tmp_path):
        finish(store, suite("trades"))
        folder = folder_of(store, suite("trades"), "trades")
        (folder.path / "thesis.tex").write_text("mine")
        (folder.path / "evaluation" / "notes.jsonl").symlink_to(tmp_path / "elsewhere")
        no_run = store.root / "digits-linf-1" / ("copy-s0-" + "0" * 16)
        no_run.mkdir()
        (no_run / "resume.pt").write_text("mine")
        prune.remove(prune.find(store, keep=set()))
        left = {path.relative_to(store.root / "digits-linf-1").as_posix() for path in store.root.rglob("*")
                if path.is_file() or path.is_symlink()}  # fmt: skip
        name = folder.path.name
        assert left == {f"{name}/thesis.tex", f"{name}/evaluation/notes.jsonl", f"{no_run.name}/resume.pt"}

    def test_a_run_at_work_is_left_alone(self, store):
        finish(store, suite("trades"))
        folder = folder_of(store, suite("trades"), "trades")
        items = prune.find(store, keep=set())
        with folder.claim("best-cw-0"):
            assert prune.find(store, keep=set()) == ()
            assert prune.remove(items) == 0
        assert folder.trained() is not None

    def test_left_overs_of_killed_writers_go(self, store):
        finish(store, suite("trades"))
        folder = folder_of(store, suite("trades"), "trades")
        for name in (".record.json.77-deadbeef.tmp", ".best.safetensors.77", ".resume.pt.77"):
            (folder.path / name).write_bytes(b"half")
        (folder.path / ".gitignore").write_text("*")
        (item,) = prune.find(store)
        assert (len(item.files), item.reason) == (3, "left by a killed process")
        prune.remove([item])
        assert (folder.path / ".gitignore").exists()


def record(folder: RunFolder, **changes) -> Record:
    trained = train(folder)
    outcomes = Outcomes.pack([True] * 90 + [False] * 10)
    checkpoint = Checkpoint(epoch=1, sha256=SHA, evaluation=Evaluation(columns={"clean": outcomes}))
    protocol = folder.spec.protocol
    return Record(
        **{
            "run": folder.id, "created": "2026-01-01T00:00:00+00:00", "protocol": protocol.canonical(),
            "protocol_name": protocol.name, "protocol_digest": protocol.digest, "official": True,
            "network": protocol.network, "method": trained.method, "seed": folder.spec.seed, "data": trained.data,
            "training": trained.training, "checkpoints": {"best": checkpoint}, **changes,
        }
    )  # fmt: skip


class TestRecords:
    def test_a_record_is_kept_with_its_checksum_and_its_date(self, store):
        folder = folder_of(store, suite("trades"), "trades")
        first = record(folder)
        folder.write_record(lambda _: first)
        folder.write_record(lambda _: first.model_copy(update={"created": "2027-01-01T00:00:00+00:00"}))
        assert folder.record() == first == Record.load(folder.record_path)
        done = subprocess.run(["sha256sum", "-c", "record.json.sha256"], cwd=folder.path, check=False)
        assert done.returncode == 0
        assert [found for _, found in store.records()] == [first]

    def test_an_edited_or_missing_record_is_built_again(self, store):
        folder = folder_of(store, suite("trades"), "trades")
        train(folder)
        ((_, first),) = store.records()
        assert (first.seed, first.run) == (0, folder.id)
        folder.record_path.write_text(folder.record_path.read_text().replace('"seed": 0', '"seed": 1'))
        assert folder.record() is None
        ((_, again),) = store.records()
        assert again.seed == 0
        assert folder.record() == again

    def test_a_run_that_is_not_trained_has_no_record(self, store):
        folder = folder_of(store, suite("trades"), "trades")
        folder.write_record(lambda _: record(folder))
        (folder.path / "training.json").unlink()
        folder.record_path.unlink()
        assert list(store.records()) == []


class TestPublish:
    def test_records_go_by_protocol_method_and_seed_once(self, store, tmp_path):
        one = record(folder_of(store, suite("trades", seeds=(2,)), "trades"))
        target = tmp_path / "records"
        (path,) = publish([one], target)
        assert path == target / "digits-linf-1" / "trades" / "seed2.json"
        assert Record.load(path) == one
        later = one.model_copy(update={"created": "2027-01-01T00:00:00+00:00"})
        assert publish([later], target) == ()

    def test_another_record_is_not_overwritten_unless_wanted(self, store, tmp_path):
        one = record(folder_of(store, suite("trades"), "trades"))
        other = one.model_copy(update={"network": "resnet50"})
        publish([one], tmp_path / "records")
        with pytest.raises(PublishError, match="another record"):
            publish([other], tmp_path / "records")
        (path,) = publish([other], tmp_path / "records", replace=True)
        assert Record.load(path) == other

    def test_two_records_for_one_place_are_refused_before_anything_is_written(self, store, tmp_path):
        one = record(folder_of(store, suite("trades"), "trades"))
        with pytest.raises(PublishError, match="claim the same place"):
            publish([one, one], tmp_path / "records")
        assert not (tmp_path / "records").exists()

    def test_variants_have_names_of_their_own(self, store):
        one = record(folder_of(store, suite("trades"), "trades"))
        names = [
            variant(one.model_copy(update={"method": one.method.model_copy(update={"changed": changed})}))
            for changed in ({}, {"beta": 3.0}, {"mode": "a b"}, {"mode": "a/b"}, {"mode": "x" * 300})
        ]
        assert names[:2] == ["trades", "trades-beta-3.0"]
        assert len(set(names)) == 5
        assert all("/" not in name and " " not in name and len(name) < 120 for name in names)
        assert destination(one, store.root).name == "seed0.json"


def test_a_job_survives_json():
    spec = RunSpec(DIGITS, "trades", {"beta": 6.0}, 1, {"robust": "ab"})
    job = Job("evaluate", spec, "best", "cw", (1, 2), ("x-train",))
    assert Job.from_plain(job.to_plain()) == job
