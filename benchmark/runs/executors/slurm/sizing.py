"""How much work a job of the cluster takes: attacks cut into jobs, time limits too short for anything refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from advbench.benchmark.runs.amounts import duration
from advbench.benchmark.runs.estimate import Estimate
from advbench.benchmark.runs.executors.slurm.profile import Profile, ProfileError
from advbench.benchmark.runs.job import Job

_MOST_GPU_THREADS = 8
_TARGET = 30 * 60.0
"""Seconds that a job with several shards is meant to take."""
_WORKERS = 4
"""Jobs that the shards of an expensive family are shared out to where nothing is known of their length."""
_DOUBT = 3.0
"""By how much an estimate from a short run may be wrong before it is a reason to refuse."""


@dataclass(frozen=True)
class Placement:
    """Jobs go to Slurm: how, and whether the command waits for them."""

    profile: Profile
    detach: bool = False

    def device(self, asked: str) -> str:
        """Return what jobs compute on: a GPU if they ask Slurm for one; never one by chance, nor a CPU for want."""
        if asked != "auto":
            return asked
        return "cuda" if self.profile.gpus_per_node else "cpu"

    @property
    def threads(self) -> int:
        """Threads of a job: part of the job, not of the node, since results depend on it to the bit."""
        most = _MOST_GPU_THREADS if self.profile.gpus_per_node else self.profile.cpus_per_task
        return self.profile.threads or min(self.profile.cpus_per_task, most)


def cut(jobs: Sequence[Job], expected: Mapping[str, Estimate], profile: Profile) -> list[Job]:
    """Cut attacks into jobs of about half an hour, or of as many shards as the profile says."""
    found = []
    for job in jobs:
        count = len(job.shards)
        size = profile.shards_per_job or _shards(job, expected[job.id], profile)
        if count <= size:
            found.append(job)
        else:
            found += [replace(job, shards=job.shards[first : first + size]) for first in range(0, count, size)]
    return found


def _shards(job: Job, expected: Estimate, profile: Profile) -> int:
    count = max(1, len(job.shards))
    if expected.seconds and expected.basis in {"measured", "scaled"}:
        limit = profile.minutes
        target = min(_TARGET, limit * 30) if limit else _TARGET
        return max(1, int(target * count / expected.seconds))
    if job.family in {"autoattack", "examination"}:
        return max(1, -(-count // (profile.parallel or _WORKERS)))
    return count


def refuse_short(jobs: Sequence[Job], expected: Mapping[str, Estimate], profile: Profile, *, tried: bool) -> None:
    """Refuse a time limit in which not one epoch, or not one shard, can be finished.

    Args:
        jobs: what is to do.
        expected: what it will take, by job id.
        profile: with the time limit.
        tried: whether a short run on this machine says anything about the nodes.

    Raises:
        ProfileError: in one line with what it would take.
    """
    limit = profile.minutes
    if limit is None:
        return
    room = limit * 60
    for job in jobs:
        estimate = expected[job.id]
        if estimate.seconds is None or (estimate.basis == "assumed" and not tried):
            continue
        epochs = job.run.training.training.epochs
        unit, parts = ("epoch", epochs) if job.kind == "train" else ("shard", len(job.shards))
        needed = estimate.seconds / max(1, parts)
        if needed > room * (_DOUBT if estimate.basis == "assumed" else 1.0):
            raise ProfileError(
                f"--time {profile.time}: too short for one {unit} of {job.label}: about {duration(needed)}; "
                "a job goes on after each, so allow for some"
            )
