"""The local executor: a few worker processes that stay, each doing one job after the other. Torch-free.

A process stays because importing torch takes seconds. Threads are shared out so that processes do not fight, and every
GPU gets a process of its own. A process that dies fails its job alone.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from advbench.benchmark.runs.executors.base import ExecutorError, JobEvent, JobFunction, Listener, Outcome
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.run_folder import RunFolder
from advbench.benchmark.runs.store import Store

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0
"""Seconds until work that others hold is tried again; doubled each time."""
_MOST_GPU_THREADS = 8
_MOST_FAILED_STARTS = 3
"""Processes in a row that may die while they start."""


def share(cores: int, gpus: int = 0, jobs: int | None = None) -> tuple[int, int]:
    """Return how many jobs to run at once and with how many threads each.

    Without GPUs one job a core, since small networks gain little from more threads; with GPUs one job a GPU. If fewer
    jobs are asked for, each gets more threads.

    Raises:
        ExecutorError: if fewer than one job is asked for.
    """
    if jobs is not None and jobs < 1:
        raise ExecutorError(f"at least one job must run at once, not {jobs}")
    workers = jobs or gpus or cores
    threads = max(1, cores // workers)
    return workers, min(threads, _MOST_GPU_THREADS) if gpus else threads


@dataclass(frozen=True)
class Local:
    """Runs jobs in worker processes on this machine.

    Attributes:
        store: where logs and failures go.
        workers: jobs at once.
        threads: threads of each.
        gpus: what `CUDA_VISIBLE_DEVICES` becomes in each worker, in turn; empty: it is left alone.
        until: `time.monotonic()` at which jobs are left as they are, to go on another time; None: never.
    """

    store: Store
    workers: int = 1
    threads: int = 1
    gpus: tuple[str, ...] = ()
    until: float | None = None

    @property
    def time_is_up(self) -> bool:
        """Whether no more may be done."""
        return self.until is not None and time.monotonic() >= self.until

    def execute(self, jobs: Sequence[Job], function: JobFunction, on_event: Listener) -> Outcome:
        """Have all jobs done; see `Executor`. Ctrl-C ends the workers and goes on to the caller; nothing is lost."""
        execution = _Execution(self, function, on_event, jobs)
        try:
            return execution.work()
        finally:
            execution.stop()

    def start(self, function: JobFunction, number: int, kind: str) -> "_WorkerProcess":
        """Start a worker process for one kind of job."""
        surroundings = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads))}
        if self.gpus:
            surroundings["CUDA_VISIBLE_DEVICES"] = self.gpus[number % len(self.gpus)]
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", function.path, json.dumps(dict(function.arguments))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=surroundings,
            start_new_session=True,  # Ctrl-C at the terminal reaches the executor alone
        )
        return _WorkerProcess(number, process, stderr, kind)


@dataclass(eq=False)
class _WorkerProcess:
    """A worker process and the job it has."""

    number: int
    process: "subprocess.Popen[bytes]"
    stderr: IO[bytes]
    kind: str
    """What kind of job it does: a process that ran the code of a method never attacks a network."""
    ready: bool = False
    job: Job | None = None
    began: float = 0.0
    listener: threading.Thread | None = None

    def send(self, job: Job, log: Path) -> None:
        """Hand over a job."""
        self.job, self.began = job, time.monotonic()
        line = json.dumps({"job": job.to_plain(), "log": str(log)}) + "\n"
        assert self.process.stdin is not None  # noqa: S101 (opened as a pipe)
        with contextlib.suppress(BrokenPipeError):  # it is dead then, and the listener says so
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()

    def listen(self, messages: "SimpleQueue[tuple[_WorkerProcess, dict[str, Any]]]") -> None:
        """Pass on what the process says, and at the end that it ended."""
        assert self.process.stdout is not None  # noqa: S101 (opened as a pipe)
        with self.process.stdout as answers:
            for line in answers:
                messages.put((self, json.loads(line)))
        self.process.wait()
        messages.put((self, {"kind": "ended"}))

    def close_input(self) -> None:
        """Close the process's input, which makes it stop at once."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def end(self) -> None:
        """Make sure that the process is gone."""
        self.close_input()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.listener is not None:
            self.listener.join(timeout=5)
        self.stderr.close()

    @property
    def last_line(self) -> str:
        """The last line that the process printed outside a job."""
        self.stderr.seek(0)
        lines = self.stderr.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def ending(self) -> str:
        """How the process ended."""
        code = self.process.returncode
        if code is None or code >= 0:
            return f"its process ended with exit status {code}"
        name = signal.Signals(-code).name if -code in {known.value for known in signal.Signals} else str(-code)
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}"


@dataclass
class _Execution:
    """One call of `execute`: the jobs, the workers, and who has what."""

    executor: Local
    function: JobFunction
    on_event: Listener
    jobs: Sequence[Job]
    messages: "SimpleQueue[tuple[_WorkerProcess, dict[str, Any]]]" = field(default_factory=SimpleQueue)
    workers: list[_WorkerProcess] = field(default_factory=list)
    done: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)
    blocked: list[tuple[Job, str]] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)
    """Seconds that a job waits before it is tried again, by job."""
    not_before: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pending = {job.id: job for job in self.jobs}
        if len(self.pending) != len(self.jobs):
            raise ExecutorError("two of the jobs are the same: plan again")
        self.open = set(self.pending)
        """Jobs that others may still have to wait for."""
        self.lost: dict[str, str] = {}
        """Jobs that failed or are blocked → label."""
        self.failed_starts = 0
        """Processes in a row that died before they were ready."""

    def work(self) -> Outcome:
        """Have everything done, or what there is time for."""
        while (self.pending or any(worker.job for worker in self.workers)) and not self.executor.time_is_up:
            self._block()
            self._assign()
            try:
                worker, message = self.messages.get(timeout=0.2)
            except Empty:
                continue
            self._handle(worker, message)
        return Outcome(tuple(self.done), tuple(self.failed), tuple(self.blocked))

    def _block(self) -> None:
        """Give up what needs a job that failed."""
        found = True
        while found and self.lost:
            found = False
            for identity, job in list(self.pending.items()):
                culprit = next((need for need in job.after if need in self.lost), None)
                if culprit is not None:
                    reason = f"it needs what failed: {self.lost[culprit]}"
                    del self.pending[identity]
                    self._give_up(job, identity)
                    self.blocked.append((job, reason))
                    self.on_event(JobEvent("blocked", job, detail=reason))
                    found = True

    def _give_up(self, job: Job, identity: str) -> None:
        self.open.discard(identity)
        self.lost[identity] = job.label

    def _ready(self) -> list[str]:
        """Return jobs that can begin now, in order, no more than there can be workers."""
        now = time.monotonic()
        found = (
            identity
            for identity, job in self.pending.items()
            if self.not_before.get(identity, 0.0) <= now and not self.open.intersection(job.after)
        )
        return list(itertools.islice(found, self.executor.workers))

    def _assign(self) -> None:
        """Give idle workers jobs, and start workers for jobs that none of them may do."""
        ready = self._ready()
        starting = [worker for worker in self.workers if not worker.ready]
        for identity in ready:
            job = self.pending[identity]
            idle = next((w for w in self.workers if w.ready and w.job is None and w.kind == job.kind), None)
            coming = next((worker for worker in starting if worker.kind == job.kind), None)
            if idle is not None:
                del self.pending[identity]
                self.on_event(JobEvent("started", job))
                idle.send(job, self._folder(job).log(job))
            elif coming is not None:
                starting.remove(coming)
            else:
                self._start_worker(
                    job.kind, needed={self.pending[identity].kind for identity in ready if identity in self.pending}
                )
        waiting = any(identity in self.not_before for identity in self.pending)
        if self.pending and not ready and not waiting and not any(worker.job for worker in self.workers):
            raise ExecutorError("jobs wait for each other: plan again")

    def _start_worker(self, kind: str, needed: set[str]) -> None:
        """Start a worker for a kind of job, if need be in the place of an idle one for which there is nothing."""
        if self.failed_starts >= _MOST_FAILED_STARTS and any(worker.job for worker in self.workers):
            return  # perhaps there is room for no more: those at work go on
        if len(self.workers) >= self.executor.workers:
            idle = next((w for w in self.workers if w.ready and w.job is None and w.kind not in needed - {kind}), None)
            if idle is None:
                return
            self.workers.remove(idle)
            idle.end()
        taken = {worker.number for worker in self.workers}
        number = next(number for number in range(self.executor.workers) if number not in taken)
        worker = self.executor.start(self.function, number, kind)
        self.workers.append(worker)
        worker.listener = threading.Thread(target=worker.listen, args=(self.messages,), daemon=True)
        worker.listener.start()

    def _folder(self, job: Job) -> RunFolder:
        return self.executor.store.folder(job.run)

    def _handle(self, worker: _WorkerProcess, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if worker not in self.workers:
            return
        if kind == "ready":
            worker.ready, self.failed_starts = True, 0
            return
        job = worker.job
        if kind == "ended":
            self._ended(worker, job)
            return
        if job is None:
            return
        seconds = time.monotonic() - worker.began
        if kind == "progress":
            progress = {name: message[name] for name in ("done", "total", "unit", "detail")}
            self.on_event(JobEvent("progress", job, **progress, seconds=seconds))
            return
        worker.job = None
        if kind == "failed":
            self._fail(job, message["reason"], seconds)
            self.workers.remove(worker)  # an error on a GPU spoils the process for good: a fresh one follows
            worker.end()
        elif message["outcome"] == "busy":
            self._postpone(job, seconds)
        else:
            self.open.discard(job.id)
            self.done.append(job)
            self.on_event(JobEvent("finished", job, seconds=seconds))

    def _postpone(self, job: Job, seconds: float) -> None:
        """Try work that others hold again later: they may die, and what they finish is then found done."""
        identity = job.id
        wait = self.waits.get(identity, _FIRST_WAIT)
        self.waits[identity] = min(2 * wait, _LONGEST_WAIT)
        self.not_before[identity] = time.monotonic() + wait
        self.pending[identity] = job
        self.on_event(JobEvent("waiting", job, detail="another process is at it", seconds=seconds))

    def _fail(self, job: Job, reason: str, seconds: float) -> None:
        self._give_up(job, job.id)
        self.failed.append((job, reason))
        self.on_event(JobEvent("failed", job, detail=reason, seconds=seconds))

    def _ended(self, worker: _WorkerProcess, job: Job | None) -> None:
        """A process died: fail its job, keep the others; if several in a row never came up none will."""
        self.workers.remove(worker)
        last_line = worker.last_line
        worker.end()
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts >= _MOST_FAILED_STARTS and not any(other.ready for other in self.workers):
                raise ExecutorError(f"a worker process cannot start: {last_line or worker.ending}")
            return
        if job is not None:
            folder = self._folder(job)
            reason = f"{worker.ending} (log: {folder.log(job)})"
            folder.create()
            folder.fail(job, reason)
            self._fail(job, reason, time.monotonic() - worker.began)

    def stop(self) -> None:
        """End all workers: closing their input makes them stop at once."""
        for worker in self.workers:
            worker.close_input()
        for worker in self.workers:
            worker.end()
