"""The Slurm executor: queue jobs, and either leave them to Slurm or watch until all are done. Torch-free.

Slurm holds the dependencies and requeues what stops early, so nothing depends on the command that watches: it may end
at any time. While it watches it also queues again what Slurm lost (a process killed from outside, a node without
requeueing), and what found no room in the queue.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advbench.benchmark.runs.executors.base import ExecutorError, JobEvent, JobFunction, Listener, Outcome
from advbench.benchmark.runs.executors.slurm import checks, commands, queue
from advbench.benchmark.runs.executors.slurm.commands import ArrayTask, SlurmAwayError
from advbench.benchmark.runs.executors.slurm.dispatch import Dispatch
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.registry import Registry, Settled, Submission
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.store import Store

log = logging.getLogger(__name__)
_SHORTEST, _LONGEST = 1.5, 15.0
"""Seconds between two looks at the queue: more and more while nothing changes."""
_PROGRESS = ("done", "total", "unit", "detail")


def _silent(_line: str) -> None:
    """Say nothing."""


def here() -> tuple[str, ...]:
    """Return how to call this installation of advbench."""
    return (sys.executable, "-m", "advbench")


@dataclass(frozen=True)
class Queued:
    """What a command left behind in the queue.

    Attributes:
        jobs: how many jobs were queued.
        arrays: Slurm's ids of the arrays they are in.
        before: how many of the jobs were in the queue already.
        unsent: how many found no room.
    """

    jobs: int
    arrays: tuple[str, ...]
    before: int
    unsent: int


@dataclass(frozen=True)
class Slurm:
    """Carries jobs to a Slurm cluster.

    Attributes:
        store: the runs; what is in the queue is noted beside them.
        profile: what jobs ask of Slurm.
        command: how a node calls advbench.
        data: the folder of data that nodes must see; None: no data are read.
        on_queue: called with a line about the queue whenever that changes.
    """

    store: Store
    profile: Profile
    command: tuple[str, ...]
    data: Path | None = None
    on_queue: Callable[[str], None] = _silent

    @property
    def registry(self) -> Registry:
        """What was handed to Slurm for this store."""
        return Registry(self.store)

    def examine(self) -> tuple[checks.Cluster, Profile]:
        """Return the cluster and the profile with its time limit; see `checks.examine`."""
        paths = [self.store.root.absolute(), *([self.data] if self.data is not None else [])]
        return checks.examine(self.profile, paths)

    def submit(self, jobs: Sequence[Job], function: JobFunction) -> Queued:
        """Queue what is not in the queue yet, and return.

        Raises:
            ExecutorError: in one line, before anything is queued if it cannot work.
        """
        dispatch = self._dispatch(jobs, function)
        if dispatch.unsent:
            dispatch.give_up()
        arrays = tuple(dict.fromkeys(key.partition("_")[0] for key in dispatch.keys.values()))
        fresh = 0 if dispatch.ours is None else dispatch.ours.count
        return Queued(len(dispatch.keys), arrays, len(jobs) - fresh, dispatch.unsent)

    def execute(self, jobs: Sequence[Job], function: JobFunction, on_event: Listener) -> Outcome:
        """Have all jobs done; see `Executor`. Ctrl-C goes on to the caller, and the jobs go on in Slurm."""
        dispatch = self._dispatch(jobs, function)
        return _Watch(self, dispatch, jobs, on_event).watch()

    def _dispatch(self, jobs: Sequence[Job], function: JobFunction) -> Dispatch:
        cluster, profile = self.examine()
        registry = self.registry
        with registry.locked():
            registry.tidy()
            live = commands.queue(queue.users(registry))
            queue.reconcile(registry, live, cluster.configuration.cluster)
            dispatch = Dispatch(registry, profile, cluster, self.command)
            dispatch.prepare(jobs, function, live, self.data)
            try:
                dispatch.send(live)
            except ExecutorError:
                dispatch.give_up()
                raise
        return dispatch


@dataclass
class _Watched:
    """One of the jobs, and where in the queue it is: in one place, or in parts in several."""

    job: Job
    places: list[tuple[Submission, int]]
    began: float | None = None
    progress: tuple[Any, ...] = ()


@dataclass
class _Watch:
    """One call of `execute`: looks at the queue and at what jobs say, until all are settled."""

    slurm: Slurm
    dispatch: Dispatch
    jobs: Sequence[Job]
    on_event: Listener
    done: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)
    blocked: list[tuple[Job, str]] = field(default_factory=list)
    missed: set[str] = field(default_factory=set)
    """Jobs that were not in the queue at the last look."""
    tries: dict[int, int] = field(default_factory=dict)
    last_summary: str = ""
    away: bool = False

    def __post_init__(self) -> None:
        ours, rest = self.dispatch.ours, self.dispatch.rest
        self.open: dict[str, _Watched] = {}
        for job in self.jobs:
            places = list(self.dispatch.theirs.get(job.id, ()))
            if ours is not None and job.id in rest:
                places.append((ours, self.dispatch.numbers[rest[job.id]]))
            self.open[job.id] = _Watched(job, places)

    def watch(self) -> Outcome:
        """Watch until everything is settled."""
        pause = _SHORTEST
        while self.open:
            changed = self._look()
            pause = _SHORTEST if changed else min(_LONGEST, 1.3 * pause)
            if self.open:
                time.sleep(pause)
        return Outcome(tuple(self.done), tuple(self.failed), tuple(self.blocked))

    def _look(self) -> bool:
        """Look once; return whether anything changed."""
        try:
            live = commands.queue(queue.users(self.slurm.registry))
            settled = {path: submission.settled() for path, submission in self._submissions().items()}
            changed = self._tend(live, settled)
        except SlurmAwayError as error:
            if not self.away:
                self.slurm.on_queue(f"Slurm's controller does not answer; its jobs go on, waiting for it ({error})")
            self.away = True
            return False
        if self.away:
            self.slurm.on_queue("Slurm's controller answers again")
            self.away = False
        ours = [live[key] for watched in self.open.values() for key in self._keys(watched) if key in live]
        summary = queue.summary(ours)
        if summary and summary != self.last_summary:
            self.slurm.on_queue(summary)
            self.last_summary = summary
            changed = True
        for identity, watched in list(self.open.items()):
            changed |= self._follow(identity, watched, live, settled)
        return changed

    def _submissions(self) -> dict[Path, Submission]:
        return {submission.path: submission for watched in self.open.values() for submission, _ in watched.places}

    def _keys(self, watched: _Watched) -> list[str]:
        return [key for submission, part in watched.places if (key := self._key(submission, part)) is not None]

    def _key(self, submission: Submission, part: int) -> str | None:
        if submission is self.dispatch.ours:
            return self.dispatch.keys.get(part)
        return self._others(submission).get(part)

    def _others(self, submission: Submission) -> dict[int, str]:
        if submission.name not in self._cache:
            self._cache[submission.name] = submission.keys()
        return self._cache[submission.name]

    _cache: dict[str, dict[int, str]] = field(default_factory=dict)

    # What Slurm lost, or had no room for ------------------------------------------------------------------------------

    def _tend(self, live: Mapping[str, ArrayTask], settled: dict[Path, dict[int, Settled]]) -> bool:
        """Find what is lost at two looks in a row; queue it again, or settle it; queue what found no room."""
        gone: dict[str, tuple[Submission, int]] = {}
        for path, submission in self._submissions().items():
            keys = self.dispatch.keys if submission is self.dispatch.ours else self._others(submission)
            known = settled[path]
            gone.update(
                {key: (submission, part) for part, key in keys.items() if part not in known and key not in live}
            )
        sure = {key: gone[key] for key in gone if key in self.missed}
        self.missed = set(gone)
        if not sure and not self.dispatch.unsent:
            return False
        with self.slurm.registry.locked():
            for key, (submission, part) in sure.items():
                self._recover(submission, part, key)
                settled[submission.path] = submission.settled()
            if self.dispatch.unsent and self.dispatch.send(live):
                return True
        return bool(sure)

    def _recover(self, submission: Submission, part: int, key: str) -> None:
        """Queue a lost job again if it may be tried again, else settle it."""
        found = queue.verdict(submission, part, key)
        if found is None or part in submission.settled():
            return
        end, reason = found
        if submission is self.dispatch.ours:
            failures = int(submission.live(part).get("failures", 0)) + self.tries.get(part, 0)
            if end == "failed" and failures < self.slurm.profile.retries:
                self.tries[part] = self.tries.get(part, 0) + 1
                log.warning("%s: %s; queued again", submission.jobs[part].label, reason)
                self.dispatch.again(part)
                return
            if end == "blocked" and self._hopeful(submission, part):
                self.dispatch.again(part)
                return
        queue.settle_lost(self.slurm.registry, submission, part, end, reason)

    def _hopeful(self, submission: Submission, part: int) -> bool:
        """Whether what a job needs may yet be done, since it was queued again."""
        settled = submission.settled()
        needs = [
            number for need in submission.jobs[part].after if (number := self.dispatch.numbers.get(need)) is not None
        ]
        return bool(needs) and all(need not in settled or settled[need].end == "done" for need in needs)

    # What jobs say ----------------------------------------------------------------------------------------------------

    def _follow(
        self,
        identity: str,
        watched: _Watched,
        live: Mapping[str, ArrayTask],
        settled: Mapping[Path, Mapping[int, Settled]],
    ) -> bool:
        """Pass on what happened to one job; return whether anything did."""
        ends = [settled[submission.path].get(part) for submission, part in watched.places]
        running = [task for key in self._keys(watched) if (task := live.get(key)) and task.state == "RUNNING"]
        changed = False
        if watched.began is None and (running or all(end is not None and end.end == "done" for end in ends)):
            watched.began = time.monotonic()
            self.on_event(JobEvent("started", watched.job))
            changed = True
        seconds = 0.0 if watched.began is None else time.monotonic() - watched.began
        if all(end is not None for end in ends):
            del self.open[identity]
            self._settle(watched.job, [end for end in ends if end is not None], seconds)
            return True
        if running and len(watched.places) == 1:
            submission, part = watched.places[0]
            state = submission.live(part)
            progress = tuple(state.get(name) for name in _PROGRESS)
            if progress != watched.progress and state.get("total"):
                watched.progress = progress
                done, total, unit, detail = progress
                self.on_event(
                    JobEvent(
                        "progress", watched.job, float(done or 0), int(total or 0), str(unit), str(detail), seconds
                    )
                )
        return changed

    def _settle(self, job: Job, ends: list[Settled], seconds: float) -> None:
        bad = next((end for end in ends if end.end not in {"done", "blocked"}), None)
        bad = bad or next((end for end in ends if end.end == "blocked"), None)
        if bad is None:
            self.done.append(job)
            self.on_event(JobEvent("finished", job, seconds=seconds))
        elif bad.end == "blocked":
            self.blocked.append((job, bad.reason))
            self.on_event(JobEvent("blocked", job, detail=bad.reason, seconds=seconds))
        else:
            reason = bad.reason or bad.end
            self.failed.append((job, reason))
            self.on_event(JobEvent("failed", job, detail=reason, seconds=seconds))
