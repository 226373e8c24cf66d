"""What `advbench job FILE --part N` does on a node: one job, as the local executor does it, with Slurm around it.

The job runs in a worker process of the local executor, so its results are those of a run at home to the bit. This
process watches: it hears Slurm's signals at once, notes how far the job is, survives its end, and puts it back into the
queue where it stopped early. The job goes on from its last epoch or shard. Torch-free.
"""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from advbench.benchmark.runs.executors.base import JobEvent
from advbench.benchmark.runs.executors.local import Local
from advbench.benchmark.runs.executors.slurm import commands
from advbench.benchmark.runs.executors.slurm.commands import SlurmError
from advbench.benchmark.runs.executors.slurm.registry import CANCELLED, Submission
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.store import Store

log = logging.getLogger(__name__)
_EVERY = 10.0
"""Seconds between two notes of progress."""
_BUSY_PATIENCE = 60.0
"""Seconds to wait, with a node in hand, for work that others hold."""
_MARGIN = 15.0
"""Seconds of the grace that are left for stopping."""
_EARLY = 120.0
"""Seconds by which Slurm's signal may come too early, and by which we begin after the job does."""
_REQUEUE_PATIENCE = 600.0


class _StopError(Exception):
    """The job ends here and goes back into the queue, or not."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _BusyError(Exception):
    """Others hold the work."""


class NodeJob:
    """Looks after one job on a node."""

    def __init__(self, submission: Submission, part: int, key: str) -> None:
        self.submission, self.part, self.key = submission, part, key
        self.job: Job = submission.job(part)
        self.store = Store(submission.path.parent.parent)
        before = submission.live(part)
        self.failures = int(before.get("failures", 0))
        self.stalls = int(before.get("stalls", 0))
        self.reached = float(before.get("done", 0.0))
        """How far attempts before this one came."""
        self.furthest = self.reached
        self.now: dict[str, Any] = {}
        self.began = time.monotonic()
        self.noted = -_EVERY
        self.waiting_since: float | None = None
        self.ending = False

    def work(self) -> int:
        """Do the job; return the exit status: 0 if it is done or back in the queue, 1 if it never will be."""
        settled = self.submission.settled()
        mine = settled.get(self.part)
        if mine is not None and mine.end == "done":
            return 0
        if mine is not None:  # somebody requeued it
            self.submission.settle([self.part], None)
        lost = self._lost(settled)
        if lost is not None:
            return self._settle("blocked", f"it needs what failed: {lost}")
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM):
            signal.signal(number, self._on_signal)
        self._note(node=os.uname().nodename)
        arguments = self.submission.batch.function.arguments
        worker = Local(self.store, workers=1, threads=int(arguments.get("threads", 1)))
        try:
            outcome = worker.execute([self.job], self.submission.batch.function, self._on_event)
        except _StopError as stop:
            return self._stopped(stop.why)
        except _BusyError:
            return self._again("others are at it")
        if outcome.clean:
            return self._settle("done")
        return self._failed("; ".join(reason for _, reason in (*outcome.failed, *outcome.blocked)))

    def _lost(self, settled: dict[int, Any]) -> str | None:
        """Return the label of a job of this submission that had to be done before, and is not."""
        if not self.job.after:
            return None
        for number, job in enumerate(self.submission.jobs):
            if job.id in self.job.after and (number not in settled or settled[number].end != "done"):
                return job.label
        return None

    # While it runs ----------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Act on a signal: the end is near (USR2), has come (TERM), or the grace is over (ALRM)."""
        if number == signal.SIGUSR2:
            left = self.submission.batch.grace - _MARGIN
            if left > 0:  # the next epoch or shard may yet be finished
                self.ending = True
                signal.setitimer(signal.ITIMER_REAL, left)
                return
        self._ignore_signals()
        raise _StopError(self._why(number))

    @staticmethod
    def _ignore_signals() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)

    def _why(self, number: int) -> str:
        """Return what is behind a signal: the time limit, somebody who needs the node, or `scancel`."""
        if number != signal.SIGTERM:
            limit, notice = self.submission.batch.minutes, self.submission.batch.grace
            late = limit and time.monotonic() - self.began > limit * 60 - notice - _EARLY
            return "the time limit is near" if late else "Slurm needs its place"
        try:
            known = commands.job_info(self.key)
        except SlurmError:
            return "Slurm ended it"
        state, reason = known.get("JobState", ""), known.get("Reason", "")
        if state == "TIMEOUT" or reason == "TimeLimit":
            return "the time limit"
        return "Slurm needs its place" if state in {"RUNNING", "PREEMPTED"} or reason.startswith("Preempt") else ""

    def _on_event(self, event: JobEvent) -> None:
        """Note how far the job is."""
        if event.kind == "waiting":
            self.waiting_since = self.waiting_since or time.monotonic()
            if time.monotonic() - self.waiting_since > _BUSY_PATIENCE:
                raise _BusyError
        elif event.kind == "progress":
            further = int(event.done) > int(self.furthest)
            self.furthest = max(self.furthest, event.done)
            self.now = {name: getattr(event, name) for name in ("done", "total", "unit", "detail")}
            if further:  # asking in vain for work that others hold is no progress
                self.waiting_since = None
            if further or time.monotonic() - self.noted >= _EVERY:
                self._note()
            if self.ending and further:
                self._ignore_signals()
                raise _StopError(self._why(signal.SIGUSR2))

    def _note(self, **more: object) -> None:
        self.noted = time.monotonic()
        plain = {"key": self.key, "failures": self.failures, "stalls": self.stalls, "done": self.reached, **self.now}
        with contextlib.suppress(OSError):  # only a courtesy to those who watch
            self.submission.set_live(self.part, {**plain, **more})

    # Afterwards -------------------------------------------------------------------------------------------------------

    def _settle(self, end: Any, reason: str = "") -> int:  # noqa: ANN401 (a literal)
        self._ignore_signals()
        self.submission.settle([self.part], end, reason)
        self.submission.end_live(self.part)
        print(f"{self.job.label}: {end}{': ' if reason else ''}{reason}", flush=True)  # noqa: T201 (Slurm's log)
        return 0 if end == "done" else 1

    def _failed(self, reason: str) -> int:
        self.failures += 1
        retries = self.submission.batch.retries
        if self.failures > retries:
            return self._settle("failed", reason)
        return self._again(f"{reason}; retry {self.failures} of {retries}")

    def _stopped(self, why: str) -> int:
        """Go back into the queue, unless it was cancelled, or limit after limit passes without an epoch or shard."""
        if not why:  # who looks next asks Slurm: it was cancelled, or somebody put it back into the queue
            self._note(why=CANCELLED)
            return 1
        limit = self.submission.batch.minutes
        if int(self.furthest) > int(self.reached):
            self.stalls = 0
        elif limit and time.monotonic() - self.began > limit * 30:  # most of its time
            self.stalls += 1
        if self.stalls > self.submission.batch.retries:
            unit = self.now.get("unit", "epoch")
            reason = f"{self.stalls} times {limit:g} minutes were too short for one {unit}: raise --time"
            folder = self.store.folder(self.job.run)
            folder.create()
            folder.fail(self.job, f"{reason} (log: {folder.log(self.job)})")
            return self._settle("failed", reason)
        self.reached = float(int(self.furthest))
        self.now = {**self.now, "done": self.reached}
        return self._again(why)

    def _again(self, why: str) -> int:
        """Put the job back into the queue."""
        self._ignore_signals()
        self._note(why=why)
        print(f"{self.job.label}: back into the queue: {why}", flush=True)  # noqa: T201 (Slurm's log)
        end = time.monotonic() + _REQUEUE_PATIENCE
        while True:
            try:
                commands.requeue(self.key)
            except SlurmError as error:  # above all a controller that is away for a while
                if not isinstance(error, commands.SlurmAwayError) or time.monotonic() > end:
                    return self._settle("failed", f"{why}; it could not be queued again: {error}")
                time.sleep(5)
            else:
                return 0


def run_part(file: Path, part: int) -> int:
    """Do one job of a batch file; return the exit status.

    Raises:
        ExecutorError: if the file is no batch, or has no such job.
    """
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    key = f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")
    return NodeJob(Submission(file.absolute().parent), part, key).work()
