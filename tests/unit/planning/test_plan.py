"""Planning: suite minus store, teachers first, nothing twice."""

import dataclasses
import subprocess
import sys
import time

import pytest

from advbench.benchmark import files
from advbench.benchmark.records.schema import (
    FAMILIES,
    Passes,
)
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.sizing import cut
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.plan import MethodFacts, MethodRequest, PlanError, Suite, complete, plan, runs, survey
from advbench.benchmark.runs.run_folder import Weights


def test_planning_needs_no_torch():
    code = (
        "import sys, advbench.benchmark.runs.plan, advbench.benchmark.runs.status, advbench.benchmark.runs.prune, "
        "advbench.benchmark.records.publish, advbench.benchmark.runs.estimate, "
        "advbench.benchmark.runs.executors.local, "
        "advbench.benchmark.runs.executors.worker; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestRuns:
    def test_a_suite_is_its_product(self, made):
        found = runs(
            made.suite("standard", "trades", protocols=(made.DIGITS, made.CIFAR), seeds=(0, 1)), made.CATALOGUE
        )
        assert [(run.spec.protocol.name, run.spec.seed, run.spec.method) for run in found] == [
            (protocol.name, seed, method)
            for protocol in (made.DIGITS, made.CIFAR)
            for seed in (0, 1)
            for method in ("standard", "trades")
        ]
        assert all(run.evaluated for run in found)

    def test_without_seeds_the_protocol_has_them(self, made):
        assert [run.spec.seed for run in runs(made.suite("standard", seeds=()), made.CATALOGUE)] == [0, 1, 2]

    def test_teachers_come_first_with_the_students_seed_and_only_to_be_trained(self, made):
        teacher_clean, teacher_robust, student = runs(made.suite("distilled", seeds=(2,)), made.CATALOGUE)
        assert [one.spec.method for one in (teacher_clean, teacher_robust, student)] == [
            "standard",
            "pgd_at",
            "distilled",
        ]
        assert {one.spec.seed for one in (teacher_clean, teacher_robust, student)} == {2}
        assert student.spec.teachers == {"clean": teacher_clean.spec.id, "robust": teacher_robust.spec.id}
        assert [one.evaluated for one in (teacher_clean, teacher_robust, student)] == [False, False, True]

    @pytest.mark.parametrize("order", [("pgd_at", "distilled"), ("distilled", "pgd_at")])
    def test_a_teacher_that_is_a_row_is_one_run_and_evaluated(self, order, made):
        found = {run.spec.method: run for run in runs(made.suite(*order), made.CATALOGUE)}
        assert {name: run.evaluated for name, run in found.items()} == {
            "standard": False,
            "pgd_at": True,
            "distilled": True,
        }

    def test_a_variant_of_a_teacher_does_not_teach(self, made):
        rows = (MethodRequest("pgd_at", {"gamma": 2.0}), MethodRequest("distilled"))
        found = runs(Suite((made.DIGITS,), rows, (0,)), made.CATALOGUE)
        assert [run.spec.hyperparameters.get("gamma") for run in found if run.spec.method == "pgd_at"] == [2.0, 1.0]
        assert [run.evaluated for run in found if run.spec.method == "pgd_at"] == [True, False]

    def test_teachers_of_teachers(self, made):
        assert [run.spec.method for run in runs(made.suite("chained"), made.CATALOGUE)] == [
            "standard",
            "pgd_at",
            "distilled",
            "chained",
        ]

    def test_teachers_that_need_each_other_are_refused(self, made):
        with pytest.raises(PlanError, match="egg → hen → egg"):
            runs(made.suite("egg"), made.CATALOGUE)


class TestHyperparameters:
    def test_an_integer_for_a_float_names_the_same_run(self, made):
        values = complete("trades", {"beta": 3}, made.CATALOGUE)
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
    def test_mistakes_are_one_line(self, name, changed, message, made):
        with pytest.raises(PlanError) as raised:
            complete(name, changed, made.CATALOGUE)
        assert message in str(raised.value)


class TestPlan:
    def test_an_empty_store_needs_everything_training_first(self, store, made):
        jobs = plan(made.suite("standard", "trades"), store, made.CATALOGUE)
        assert [job.kind for job in jobs] == ["train"] * 2 + ["evaluate"] * 2 * 2 * len(FAMILIES)
        assert jobs[2].family == FAMILIES[-1]
        assert all(f"{job.run.id}-train" in job.after for job in jobs if job.kind == "evaluate")
        assert len({job.id for job in jobs}) == len(jobs)

    def test_every_job_comes_after_those_it_needs(self, store, made):
        jobs = plan(made.suite("distilled", "pgd_at", seeds=(0, 1)), store, made.CATALOGUE)
        seen: set[str] = set()
        for job in jobs:
            assert set(job.after) <= seen
            seen.add(job.id)
        students = [job for job in jobs if job.kind == "train" and job.run.method == "distilled"]
        assert [len(job.after) for job in students] == [2, 2]
        assert not [job for job in jobs if job.kind == "evaluate" and job.run.method == "standard"]

    def test_what_is_done_is_not_planned_again(self, store, made):
        wanted = made.suite("standard", "distilled")
        made.finish(store, wanted)
        assert plan(wanted, store, made.CATALOGUE) == ()
        assert {standing.state for standing in survey(wanted, store, made.CATALOGUE)} == {"done"}

    def test_a_trained_teacher_holds_nobody_up(self, store, made):
        wanted = made.suite("distilled")
        for name in ("standard", "pgd_at"):
            made.train(made.folder_of(store, wanted, name))
        first = plan(wanted, store, made.CATALOGUE)[0]
        assert (first.run.method, first.kind, first.after) == ("distilled", "train", ())

    def test_only_missing_shards_are_planned(self, store, made):
        wanted = made.suite("trades", protocols=(made.CIFAR,))
        folder = made.folder_of(store, wanted, "trades")
        trained = made.train(folder, test=10_000)
        made.attack(folder, trained, "autoattack", shards=(0, 1, 7), checkpoints=("best",))
        (job,) = [
            job for job in plan(wanted, store, made.CATALOGUE) if (job.checkpoint, job.family) == ("best", "autoattack")
        ]
        assert job.shards == tuple(shard for shard in range(25) if shard not in {0, 1, 7})
        parts = [part.shards for part in cut([job], {}, Profile(shards_per_job=10))]
        assert [len(part) for part in parts] == [10, 10, 2]
        assert sum(parts, ()) == job.shards

    def test_counts_of_shards_add_up(self, store, made):
        wanted = made.suite("trades", protocols=(made.CIFAR,))
        folder = made.folder_of(store, wanted, "trades")
        made.attack(folder, made.train(folder, test=10_000), "cw", shards=range(5))
        found = [work for work in survey(wanted, store, made.CATALOGUE) if work.job.family == "cw"]
        assert (sum(one.done for one in found), sum(one.total for one in found)) == (10, 50)

    def test_a_test_set_of_another_size_is_taken_as_it_is(self, store, made):
        wanted = made.suite("trades", protocols=(made.CIFAR,))
        made.train(made.folder_of(store, wanted, "trades"), test=401)
        assert {job.shards for job in plan(wanted, store, made.CATALOGUE)} == {(0, 1)}

    def test_data_of_unknown_size_is_attacked_whole(self, store, made):
        data = dataclasses.replace(made.CIFAR.data, name="my-own")
        jobs = plan(
            made.suite("trades", protocols=(dataclasses.replace(made.CIFAR, data=data),)), store, made.CATALOGUE
        )
        assert {job.shards for job in jobs if job.kind == "evaluate"} == {()}

    def test_retrained_weights_are_attacked_again(self, store, made):
        wanted = made.suite("standard")
        made.finish(store, wanted)
        folder = made.folder_of(store, wanted, "standard")
        trained = folder.trained()
        folder.finish_training(
            trained.model_copy(
                update={"checkpoints": {**trained.checkpoints, "last": Weights(epoch=1, sha256=made.SHA, bytes=200)}}
            )
        )
        jobs = plan(wanted, store, made.CATALOGUE)
        assert {(job.kind, job.checkpoint) for job in jobs} == {("evaluate", "last")}
        assert len(jobs) == len(FAMILIES)

    def test_a_torn_training_and_a_torn_result_are_done_again(self, store, made):
        wanted = made.suite("standard", "trades")
        made.finish(store, wanted)
        torn = made.folder_of(store, wanted, "standard").path / "training.json"
        torn.write_bytes(torn.read_bytes()[:-9])
        folder = made.folder_of(store, wanted, "trades")
        journal = folder.journal("best", "pgd", folder.trained())
        journal.write_bytes(journal.read_bytes()[:-9])
        redo = [job.label for job in plan(wanted, store, made.CATALOGUE) if job.run.method == "trades"]
        assert redo == ["pgd on best of digits-linf/1 trades seed 0"]
        assert plan(wanted, store, made.CATALOGUE)[0].label == "train digits-linf/1 standard seed 0"


def test_an_examination_waits_for_the_peers_it_needs(store, made, monkeypatch):
    monkeypatch.setattr("advbench.benchmark.runs.plan.FAMILIES", ("clean", "examination"))
    wanted = made.suite("trades", "pgd_at", "standard", seeds=(0, 1))
    made.train(made.folder_of(store, wanted, "standard"))
    jobs = plan(wanted, store, made.CATALOGUE)
    ids = {(job.run.method, job.run.seed): job.run.id for job in jobs}
    peer = f"{ids['pgd_at', 0]}-train"
    for job in jobs:
        own = {f"{job.run.id}-train"} & {one.id for one in jobs}
        if job.kind == "evaluate":
            assert set(job.after) == own | ({peer} if job.family == "examination" else set())
    assert [job.kind for job in jobs].count("train") == 5


class TestDivergence:
    def test_a_diverged_run_is_finished_and_its_networks_attacked_if_there_are(self, store, made):
        wanted = made.suite("standard", "trades")
        made.train(made.folder_of(store, wanted, "standard"), diverged=True, checkpoints=())
        made.train(made.folder_of(store, wanted, "trades"), diverged=True, checkpoints=("best",))
        jobs = plan(wanted, store, made.CATALOGUE)
        assert {(job.run.method, job.checkpoint) for job in jobs} == {("trades", "best")}

    def test_students_of_a_diverged_teacher_are_impossible_and_say_why(self, store, made):
        wanted = made.suite("chained")
        made.train(made.folder_of(store, wanted, "standard"), diverged=True, checkpoints=())
        found = {one.job.id: one for one in survey(wanted, store, made.CATALOGUE)}
        chained = next(one for one in found.values() if one.job.run.method == "chained" and one.job.kind == "train")
        assert (chained.state, chained.possible) == ("blocked", False)
        assert "standard seed 0 diverged before its first checkpoint" in chained.reason
        assert {job.run.method for job in plan(wanted, store, made.CATALOGUE)} == {"pgd_at"}


def test_a_large_suite_is_planned_in_seconds(store, monkeypatch, made):
    monkeypatch.setattr("os.fsync", lambda _: None)
    catalogue = {f"method{number}": MethodFacts({"beta": 6.0}) for number in range(20)}
    wanted = Suite((made.CIFAR,), tuple(MethodRequest(name) for name in catalogue), (0, 1, 2))
    for run in runs(wanted, catalogue):
        folder = store.folder(run.spec)
        trained = made.train(folder, test=10_000)
        line = {"environment": made.ENVIRONMENT.model_dump(), "seconds": 1.0, "passes": Passes().model_dump()}
        for checkpoint, weights in trained.checkpoints.items():
            sealed_lines = b"".join(
                files.seal({**line, "shard": shard, "checkpoint_sha256": weights.sha256, "result": {"p": [3] * 400}})
                for shard in range(24)
            )
            folder.journal(checkpoint, "autoattack", trained).write_bytes(sealed_lines)
    began = time.process_time()
    jobs = plan(wanted, store, catalogue)
    seconds = time.process_time() - began
    assert len([job for job in jobs if job.family == "autoattack"]) == 120
    assert {job.shards for job in jobs if job.family == "autoattack"} == {(24,)}
    assert seconds < 3.0  # measured 0.2 s for 60 runs and 2,880 shards; 540 runs and 53,000 shards took 2.6 s


def test_a_job_survives_json(made):
    spec = RunSpec(made.DIGITS, "trades", {"beta": 6.0}, 1, {"robust": "ab"})
    job = Job("evaluate", spec, "best", "cw", (1, 2), ("x-train",))
    assert Job.from_plain(job.to_plain()) == job
