"""What a node does with a job: signals, retries, going back into the queue."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import pytest

from advbench.benchmark.runs.executors.slurm import queue
from advbench.benchmark.runs.executors.slurm.node import NodeJob, run_part
from advbench.benchmark.runs.executors.slurm.registry import Registry, units
from advbench.benchmark.runs.job import Job


@pytest.fixture
def on_node(world, monkeypatch) -> Callable[..., int]:
    """Queue jobs, then do one as a node would."""

    def do(jobs: list[Job], part: int = 0, **settings) -> int:
        if not Registry(world.store).submissions():
            world.slurm(**settings).submit(jobs, world.function)
            world.cluster.tasks("RUNNING")
        array, _, index = world.first.keys()[part].partition("_")
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", array)
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", index)
        handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)}
        try:
            return run_part(world.first.path / "batch.json", part)
        finally:
            for one, handler in handlers.items():
                signal.signal(one, handler)

    return do


def test_a_job_is_done_as_at_home(world, on_node, tmp_path):
    job = world.train()
    assert on_node([job]) == 0
    assert world.first.settled()[0].end == "done"
    assert world.first.live(0) == {}
    assert json.loads((tmp_path / "diary").read_text()) == {"job": job.id, "threads": "2"}
    assert on_node([job]) == 0  # requeued after it was done: nothing is done again
    assert len((tmp_path / "diary").read_text().splitlines()) == 1


@pytest.mark.parametrize(("what", "said"), [("fail", "no luck"), ("die", "SIGKILL")])
def test_a_failed_job_is_tried_again_so_often(world, on_node, what, said):
    jobs = [world.train(do=what)]
    assert on_node(jobs, retries=1) == 0
    assert world.cluster.read()["requeued"] == ["101_0"]
    assert world.first.live(0)["failures"] == 1
    assert on_node(jobs) == 1
    assert world.cluster.read()["requeued"] == ["101_0"]
    settled = world.first.settled()[0]
    assert settled.end == "failed"
    assert said in settled.reason


def test_a_job_that_needs_what_failed_is_not_begun(world, on_node, tmp_path):
    teacher = world.train(0)
    jobs = [teacher, world.train(1, (teacher.id,))]
    assert on_node(jobs, 1, parallel=1) == 1
    assert world.first.settled()[1].end == "blocked"
    assert not (tmp_path / "diary").exists()
    world.first.settle([0], "done")
    assert on_node(jobs, 1) == 0
    assert world.first.settled()[1].end == "done"


def test_a_job_that_others_are_at_goes_back(world, on_node, monkeypatch):
    monkeypatch.setattr("advbench.benchmark.runs.executors.slurm.node._BUSY_PATIENCE", 0.3)
    assert on_node([world.train(do="busy")]) == 0
    assert world.cluster.read()["requeued"] == ["101_0"]
    assert world.first.live(0)["failures"] == 0
    assert not world.first.settled()


NODE = """
    import sys
    from pathlib import Path
    from advbench.benchmark.runs.executors.slurm.node import run_part
    sys.exit(run_part(Path(sys.argv[1]), 0))
"""


def stopped(world, number: int, before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Do the first job in a process of its own, and send it a signal once it is at work."""
    array, _, index = world.first.keys()[0].partition("_")
    surroundings = {**os.environ, "SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": index}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NODE), str(world.first.path / "batch.json")],
        env=surroundings, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (world.diary.exists() and world.first.live(0).get("total")) and process.poll() is None:
        time.sleep(0.05)
    before()
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize(
    "case",
    [("COMPLETING", "TimeLimit", True), ("RUNNING", "None", True), ("COMPLETING", "None", False)],
)
def test_a_job_that_is_stopped_goes_back_unless_it_was_cancelled(world, case):
    state, reason, back = case
    world.slurm().submit([world.train(do="sleep")], world.function)
    code, said = stopped(world, signal.SIGTERM, lambda: world.cluster.tasks(state, reason=reason))
    assert world.cluster.read()["requeued"] == (["101_0"] if back else [])
    assert ("back into the queue" in said, code) == ((True, 0) if back else (False, 1))
    assert not world.first.settled()
    if not back:
        world.cluster.forget("101_0")
        queue.jobs_in_queue(Registry(world.store))
        assert world.first.settled()[0].end == "cancelled"


def test_notice_before_the_time_limit_stops_the_job_in_time(world):
    world.slurm(grace=16).submit(
        [world.train(do="sleep")], world.function
    )  # one second for the epoch that is under way
    world.cluster.tasks("RUNNING")
    code, said = stopped(world, signal.SIGUSR2)
    assert (code, world.cluster.read()["requeued"]) == (0, ["101_0"])
    assert "back into the queue: Slurm needs its place" in said
    assert world.first.live(0)["done"] == 1


def test_a_time_limit_without_progress_fails_in_the_end(world):
    world.slurm(retries=1, time="90").submit([world.train()], world.function)
    for attempt in (1, 2):
        node_job = NodeJob(world.first, 0, "101_0")
        node_job.began -= 80 * 60
        node_job.furthest = 0.5
        node_job.now = {"done": 0.5, "total": 3, "unit": "epoch"}
        handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)}
        assert node_job._stopped("the time limit") == attempt - 1
        for one, handler in handlers.items():
            signal.signal(one, handler)
    settled = world.first.settled()[0]
    assert settled.end == "failed"
    assert "2 times 90 minutes were too short for one epoch: raise --time" in settled.reason
    assert "raise --time" in world.store.folder(world.train().run).failures()[0].reason


def test_units_tell_jobs_apart(world):
    training = world.train()
    assert units(training) & units(world.attack(training)) == frozenset()
    assert len(units(world.attack(training, (0, 1))) & units(world.attack(training, (1, 2)))) == 1
    assert units(world.attack(training, (), "best")) != units(world.attack(training, (), "last"))
