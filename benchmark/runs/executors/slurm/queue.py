"""A store's jobs in Slurm's queue: shown, cancelled, and settled where they left it without a word. Torch-free."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advbench.benchmark.runs.executors.base import ExecutorError
from advbench.benchmark.runs.executors.slurm import commands
from advbench.benchmark.runs.executors.slurm.commands import ArrayTask
from advbench.benchmark.runs.executors.slurm.registry import CANCELLED, FOLDER, End, Registry, Settled, Submission
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.store import Store

_HINTS = {"TIMEOUT": ": raise --time", "OUT_OF_MEMORY": ": raise --mem"}
_ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "STOPPED", "RESIZING"}


@dataclass(frozen=True)
class QueuedJob:
    """A job of the store that is in Slurm's queue; `live` is what it says of itself once it has begun."""

    submission: Submission
    part: int
    job: Job
    task: ArrayTask
    live: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """State and reason, or progress, in words: "PENDING (Resources)", "RUNNING on n1, epoch 3/10"."""
        if self.task.state == "PENDING":
            why = self.live.get("why", "")
            return f"PENDING ({self.task.reason})" + (f", again: {why}" if why else "")
        place = f" on {self.task.node}" if self.task.node else ""
        total, unit = self.live.get("total"), self.live.get("unit")
        far = f", {unit} {int(float(self.live.get('done', 0)))}/{total}" if total and unit else ""
        return f"{self.task.state}{place}{far}"


def users(registry: Registry) -> set[str]:
    """Return who has jobs of the store in a queue, and who asks."""
    return {commands.me(), *(submission.batch.user for submission, _ in registry.open())}


def entries(registry: Registry, live: Mapping[str, ArrayTask]) -> list[QueuedJob]:
    """Return the jobs that are in the queue, by submission and number."""
    found = []
    for submission, settled in registry.open():
        for part, key in submission.keys().items():
            if part not in settled and key in live:
                state = submission.live(part)
                found.append(QueuedJob(submission, part, submission.jobs[part], live[key], state))
    return found


def lost(submission: Submission, settled: Mapping[int, Settled], live: Mapping[str, ArrayTask]) -> dict[int, str]:
    """Return the jobs that were queued, are not in the queue any more, and did not say what became of them."""
    return {part: key for part, key in submission.keys().items() if part not in settled and key not in live}


def verdict(submission: Submission, part: int, key: str) -> tuple[End, str] | None:
    """Return what became of a lost job, and why; None if Slurm has it after all."""
    known = commands.job_info(key)
    state, reason = known.get("JobState", ""), known.get("Reason", "")
    if state in _ALIVE:
        return None
    if reason == "DependencyNeverSatisfied":
        return "blocked", "it needs what failed"
    if state == "CANCELLED" or (not state and submission.live(part).get("why") == CANCELLED):
        return "cancelled", CANCELLED
    if not state:
        settled, names = submission.settled(), {job.id: number for number, job in enumerate(submission.jobs)}
        needs = [names[need] for need in submission.jobs[part].after if need in names]
        if any(settled.get(need, Settled("done")).end != "done" for need in needs):
            return "blocked", "it needs what failed"
    log = submission.log(key.partition("_")[0])
    message = f"Slurm ended it as {state}{_HINTS.get(state, '')}" if state else "it left Slurm's queue without a word"
    code = known.get("ExitCode", "0:0")
    return "failed", f"{message}{'' if code == '0:0' else f', exit code {code}'} (log: {log})"


def settle_lost(registry: Registry, submission: Submission, part: int, end: End, reason: str) -> None:
    """Say what became of a lost job, in the store as well if it failed; the caller holds the lock."""
    submission.settle([part], end, reason)
    submission.end_live(part)
    if end == "failed":
        job = submission.jobs[part]
        folder = registry.store.folder(job.run)
        folder.create()
        folder.fail(job, reason)


def reconcile(registry: Registry, live: Mapping[str, ArrayTask], cluster: str) -> None:
    """Settle every job that is lost; the caller holds the lock, and asked for the queue under it."""
    for submission, settled in registry.open():
        if submission.batch.cluster != cluster:
            continue
        for part, key in lost(submission, settled, live).items():
            found = verdict(submission, part, key)
            if found is not None:
                settle_lost(registry, submission, part, *found)


def jobs_in_queue(registry: Registry) -> list[QueuedJob]:
    """Return what is in the queue now, and settle what is lost as far as the disk allows.

    Raises:
        ExecutorError: if Slurm is not here, or does not answer.
    """
    if not any(True for _ in registry.open()):
        return []
    if not commands.present():
        raise ExecutorError("jobs were handed to Slurm, which is not on this machine: look where they were queued")
    with contextlib.suppress(ExecutorError), registry.locked(patience=1.0):
        cluster = commands.configuration().cluster
        reconcile(registry, commands.queue(users(registry)), cluster)
    return entries(registry, commands.queue(users(registry)))


def summary(tasks: Iterable[ArrayTask]) -> str:
    """Return states and reasons with their numbers: "2 running, 5 pending (Resources)"."""
    counts = Counter(
        f"pending ({task.reason})" if task.state == "PENDING" and task.reason else task.state.lower() for task in tasks
    )
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


@dataclass(frozen=True)
class RunInQueue:
    """What of a run is in Slurm's queue: "running" or "queued", and what Slurm and the jobs say."""

    label: str
    state: str
    message: str


def by_run(store: Store) -> dict[str, RunInQueue]:
    """Return the runs of which something is in Slurm's queue, by identity.

    Raises:
        ExecutorError: if Slurm does not answer.
    """
    if not (store.root / FOLDER).is_dir():
        return {}
    runs: dict[str, list[QueuedJob]] = {}
    for entry in jobs_in_queue(Registry(store)):
        runs.setdefault(entry.job.run.id, []).append(entry)
    return {
        identity: RunInQueue(
            found[0].job.run.label,
            "running" if any(entry.task.state == "RUNNING" for entry in found) else "queued",
            "; ".join(f"{count} {message}" for message, count in Counter(entry.text for entry in found).items()),
        )
        for identity, found in runs.items()
    }


def cancel_jobs(registry: Registry, chosen: Sequence[QueuedJob], found: Sequence[QueuedJob]) -> None:
    """Cancel jobs and settle them in the store's registry.

    Args:
        registry: of the store.
        chosen: jobs of this user.
        found: all of the store's jobs in the queue.
    """
    with registry.locked():
        commands.cancel(_cancel_keys(chosen, found))
        by_submission: dict[Path, list[QueuedJob]] = {}
        for entry in chosen:
            by_submission.setdefault(entry.submission.path, []).append(entry)
        for entries in by_submission.values():
            entries[0].submission.settle([entry.part for entry in entries], "cancelled", "cancelled")
            for entry in entries:
                entry.submission.end_live(entry.part)


def _cancel_keys(chosen: Sequence[QueuedJob], found: Sequence[QueuedJob]) -> list[str]:
    """Return what scancel is told: a whole array by its one id where all that is left of it goes."""
    every: dict[str, set[str]] = {}
    for entry in found:
        every.setdefault(entry.task.key.partition("_")[0], set()).add(entry.task.key)
    wanted = {entry.task.key for entry in chosen}
    keys: dict[str, None] = {}
    for key in sorted(wanted):
        array = key.partition("_")[0]
        keys[array if every[array] <= wanted else key] = None
    return list(keys)
