"""The local executor, with doubles for the work: order, crashes, Ctrl-C, busy work, processes that stay."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from advbench.benchmark.protocol import published
from advbench.benchmark.runs.executors.base import ExecutorError, JobEvent, JobFunction, Outcome
from advbench.benchmark.runs.executors.local import Local, share
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.store import Store

PROTOCOL = published()["digits-linf/1"]

DOUBLE = """
import json, os, signal, sys, time, pathlib, types
def perform(job, *, diary, on_progress, store_root=None):
    what = job.run.hyperparameters.get("do", "work")
    line = {"job": job.id, "pid": os.getpid(), "kind": job.kind, "what": what, "torch": "torch" in sys.modules,
            "threads": os.environ.get("OMP_NUM_THREADS"), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
    def note(event):
        with open(diary, "a") as handle:
            handle.write(json.dumps({**line, "event": event, "at": time.monotonic()}) + "\\n")
    note("begin")
    print("printed by", job.id)
    on_progress(types.SimpleNamespace(done=0.5, total=1, unit="epoch", detail="half"))
    if what == "fail":
        raise ValueError("no\\nluck")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(3)
    if what == "sleep":
        time.sleep(120)
    if what == "nap":
        time.sleep(0.4)
    if what == "meet":  # both executors are at work before either gets anywhere
        end = time.monotonic() + 30
        while len({json.loads(line)["pid"] for line in open(diary)}) < 3 and time.monotonic() < end:
            time.sleep(0.02)
    if what in {"store", "meet"}:
        from advbench.benchmark.runs.store import Store
        folder = Store(pathlib.Path(store_root)).folder(job.run)
        folder.create()
        with folder.claim("train") as free:
            if (folder.path / "done").exists():
                return "done"
            if not free:
                return "busy"
            note("work")
            time.sleep(0.6)  # longer than a claim waits for a lock: who comes second goes on to other work
            (folder.path / "done").touch()
    note("end")
    return "done"
"""


def spec(seed: int = 0, **hyperparameters) -> RunSpec:
    return RunSpec(PROTOCOL, "trades", hyperparameters, seed)


def train(seed: int = 0, after: tuple[str, ...] = (), **hyperparameters) -> Job:
    return Job("train", spec(seed, **hyperparameters), after=after)


@pytest.fixture
def diary(tmp_path, monkeypatch):
    """The doubles can be imported by worker processes; what they note comes back from `diary()`."""
    (tmp_path / "double.py").write_text(DOUBLE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    path = tmp_path / "diary"

    def read() -> list[dict]:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    read.path = path
    return read


@pytest.fixture
def carry(tmp_path, diary):
    """Have jobs done by the doubles: `outcome, events = carry(jobs, workers=2)`."""

    def run(jobs, **kwargs):
        store = Store(tmp_path / "runs")
        function = JobFunction("double:perform", {"diary": str(diary.path), "store_root": str(store.root)})
        events: list[JobEvent] = []
        return Local(store, **kwargs).execute(jobs, function, events.append), events

    return run


class TestSharing:
    @pytest.mark.parametrize(
        ("cores", "gpus", "jobs", "expected"),
        [
            (2, 0, None, (2, 1)),
            (8, 0, 2, (2, 4)),
            (8, 0, 3, (3, 2)),
            (2, 0, 5, (5, 1)),
            (64, 4, None, (4, 8)),
            (8, 4, 2, (2, 4)),
            (8, 2, 8, (8, 1)),
        ],
    )
    def test_cores_are_shared_out(self, cores, gpus, jobs, expected):
        assert share(cores, gpus, jobs) == expected

    def test_no_job_at_all_is_refused(self):
        with pytest.raises(ExecutorError, match="at least one"):
            share(4, 0, 0)


class TestOrder:
    def test_each_job_once_after_those_it_needs(self, carry, diary):
        first, second = train(0, do="nap"), train(1)
        last = train(2, after=(first.id, second.id))
        outcome, events = carry([last, first, second], workers=2)
        assert outcome.clean
        assert {job.id for job in outcome.done} == {first.id, second.id, last.id}
        notes = [(note["event"], note["job"]) for note in diary()]
        assert notes.index(("begin", last.id)) > notes.index(("end", first.id))
        assert Counter(event for event, _ in notes) == {"begin": 3, "end": 3}
        assert [event.kind for event in events if event.job == last] == ["started", "progress", "finished"]

    def test_a_job_that_is_not_among_them_holds_nobody_up(self, carry):
        outcome, _ = carry([train(0, after=("done-long-ago",))])
        assert len(outcome.done) == 1

    def test_nothing_to_do_starts_nothing(self, carry):
        outcome, events = carry([])
        assert outcome.clean
        assert events == []

    def test_the_same_job_twice_is_refused(self, carry):
        with pytest.raises(ExecutorError, match="are the same"):
            carry([train(), train()])

    def test_jobs_in_a_circle_are_refused(self, carry):
        one, two = train(0), train(1)
        circle = [Job("train", one.run, after=(two.id,)), Job("train", two.run, after=(one.id,))]
        with pytest.raises(ExecutorError, match="wait for each other"):
            carry(circle)


class TestProcesses:
    def test_a_process_stays_for_many_jobs_and_all_work_at_once(self, carry, diary):
        outcome, _ = carry([train(seed, do="nap") for seed in range(6)], workers=2)
        assert len(outcome.done) == 6
        assert len({note["pid"] for note in diary()}) == 2
        at_work = most = 0
        for note in diary():
            at_work += 1 if note["event"] == "begin" else -1
            most = max(most, at_work)
        assert most == 2

    def test_no_process_attacks_after_it_has_trained(self, carry, diary):
        jobs = [train(seed) for seed in range(3)]
        jobs += [Job("evaluate", spec(seed), "best", "cw", (0,), (train(seed).id,)) for seed in range(3)]
        outcome, _ = carry(jobs, workers=2)
        assert len(outcome.done) == 6
        kinds = {}
        for note in diary():
            kinds.setdefault(note["pid"], set()).add(note["kind"])
        assert all(len(kind) == 1 for kind in kinds.values())

    def test_threads_and_gpus_are_set_before_torch_is_there(self, carry, diary):
        carry([train(seed, do="nap") for seed in range(4)], workers=2, threads=3, gpus=("GPU-a", "5"))
        assert {note["threads"] for note in diary()} == {"3"}
        assert {note["gpu"] for note in diary()} == {"GPU-a", "5"}
        assert not any(note["torch"] for note in diary())

    def test_what_a_job_prints_is_in_its_log(self, carry, tmp_path):
        job = train()
        carry([job])
        log = Store(tmp_path / "runs").folder(job.run).log(job)
        assert log.read_text().strip() == f"printed by {job.id}"

    def test_progress_is_passed_on(self, carry):
        _, events = carry([train()])
        (progress,) = [event for event in events if event.kind == "progress"]
        assert (progress.done, progress.total, progress.unit, progress.detail) == (0.5, 1, "epoch", "half")


class TestTime:
    def test_when_time_is_up_jobs_are_left_as_they_are(self, carry, diary):
        jobs = [train(seed, do="sleep") for seed in range(3)]
        began = time.monotonic()
        outcome, _ = carry(jobs, workers=1, until=began + 3)
        assert time.monotonic() - began < 60, "the sleepers would take two minutes"
        assert outcome == Outcome()
        assert len({note["job"] for note in diary()}) <= 1


class TestFailure:
    def test_a_failed_job_fails_alone_and_takes_its_dependents(self, carry):
        bad, good = train(0, do="fail"), train(1)
        student = train(2, after=(bad.id,))
        pupil = train(3, after=(student.id,))
        outcome, events = carry([bad, good, student, pupil], workers=2)
        assert outcome.failed == ((bad, "no luck"),)
        assert outcome.done == (good,)
        assert [job for job, _ in outcome.blocked] == [student, pupil]
        assert bad.label in outcome.blocked[0][1]
        assert Counter(event.kind for event in events)["blocked"] == 2
        assert not outcome.clean

    @pytest.mark.parametrize(
        ("what", "reason"), [("die", "ended by SIGKILL, perhaps for want of memory"), ("exit", "exit status 3")]
    )
    def test_a_process_that_dies_fails_its_job_alone(self, carry, tmp_path, what, reason):
        bad = train(0, do=what)
        jobs = [bad, *(train(seed, do="nap") for seed in range(1, 5))]
        outcome, _ = carry(jobs, workers=2)
        ((job, said),) = outcome.failed
        folder = Store(tmp_path / "runs").folder(bad.run)
        assert job == bad
        assert reason in said
        assert str(folder.log(bad)) in said
        assert folder.failures()[0].reason == said
        assert len(outcome.done) == 4

    def test_after_a_failure_a_fresh_process_goes_on(self, carry, diary):
        carry([train(0, do="fail"), train(1)], workers=1)
        assert len({note["pid"] for note in diary()}) == 2

    def test_a_process_that_dies_while_starting_costs_nothing(self, carry, diary, tmp_path):
        first = f"import os, pathlib\nif not pathlib.Path({str(tmp_path / 'been')!r}).exists():\n"
        first += f"    pathlib.Path({str(tmp_path / 'been')!r}).touch(); os._exit(9)\n"
        (tmp_path / "double.py").write_text(first + DOUBLE)
        outcome, _ = carry([train(0), train(1)], workers=1)
        assert len(outcome.done) == 2

    def test_workers_that_cannot_start_are_one_line(self, carry, diary, tmp_path):
        (tmp_path / "double.py").write_text("raise ImportError('no such library')")
        with pytest.raises(ExecutorError, match="cannot start: ImportError: no such library"):
            carry([train(0), train(1)], workers=2)


def pids_alive(pids) -> set[int]:
    found = set()
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        found.add(pid)
    return found


def wait_for(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


EXECUTOR = """
import pathlib, signal, sys
# A shell that runs the tests in the background has Ctrl-C ignored; a terminal has not.
signal.signal(signal.SIGINT, signal.default_int_handler)
from advbench.benchmark.runs.executors.base import JobFunction
from advbench.benchmark.runs.executors.local import Local
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.protocol import published
from advbench.benchmark.runs.store import Store
diary, root, what, count = sys.argv[1:]
store = Store(pathlib.Path(root))
jobs = [Job("train", RunSpec(published()["digits-linf/1"], "trades", {"do": what}, seed)) for seed in range(int(count))]
try:
    function = JobFunction("double:perform", {"diary": diary, "store_root": root})
    outcome = Local(store, 2).execute(jobs, function, lambda e: 0)
    print(len(outcome.done), len(outcome.failed))
except KeyboardInterrupt:
    print("stopped")
"""


def executor(diary, root, what: str, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(EXECUTOR), str(diary.path), str(root), what, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


class TestEnding:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_no_worker_outlives_its_executor(self, diary, tmp_path, how):
        process = executor(diary, tmp_path / "runs", "sleep", 3)
        wait_for(lambda: len(diary()) == 2)
        workers = {note["pid"] for note in diary()}
        assert pids_alive(workers) == workers
        os.killpg(process.pid, how)  # as a terminal does
        said, errors = process.communicate(timeout=60)
        if how == signal.SIGINT:
            assert said == b"stopped\n", errors
        wait_for(lambda: not pids_alive(workers))
        assert {note["event"] for note in diary()} == {"begin"}

    def test_two_executors_on_one_store_never_do_a_job_twice(self, diary, tmp_path):
        both = [executor(diary, tmp_path / "runs", "meet", 6) for _ in range(2)]
        ended = [process.communicate(timeout=60) for process in both]
        assert [said for said, _ in ended] == [b"6 0\n"] * 2, ended
        worked = Counter(note["job"] for note in diary() if note["event"] == "work")
        assert len(worked) == 6
        assert set(worked.values()) == {1}
        assert len({note["pid"] for note in diary() if note["event"] == "work"}) > 2

    def test_work_of_a_killed_executor_is_taken_over(self, diary, tmp_path, carry):
        job = train(0, do="store")
        folder = Store(tmp_path / "runs").folder(job.run)
        folder.create()
        code = (
            "import sys, time; from pathlib import Path; from advbench.benchmark.runs.store import RunFolder\n"
            f"with RunFolder(Path({str(folder.path)!r}), 'x').claim('train'): print(1, flush=True); time.sleep(60)"
        )
        holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        holder.stdout.readline()
        seen: list[JobEvent] = []

        def kill_when_waiting(event: JobEvent) -> None:
            seen.append(event)
            if event.kind == "waiting":
                holder.kill()

        function = JobFunction("double:perform", {"diary": str(diary.path), "store_root": str(tmp_path / "runs")})
        outcome = Local(Store(tmp_path / "runs")).execute([job], function, kill_when_waiting)
        holder.wait()
        holder.stdout.close()
        assert outcome.done == (job,)
        assert [event.kind for event in seen if event.kind != "progress"] == [
            "started",
            "waiting",
            "started",
            "finished",
        ]
