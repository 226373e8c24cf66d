"""From jobs to arrays: which jobs go together, and what they wait for. Torch-free.

Jobs that wait for the same jobs form an array, which Slurm starts as soon as those are done: training without teachers
is one array, the students of one teacher are one, the attacks on one network are one. Where no more than so many jobs
may run at once (`parallel`), arrays of that kind would not do, since Slurm's throttle holds for one array alone; there
an array is a stage (what waits for nothing, then what waits for that, …) and arrays come one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from advbench.benchmark.runs.job import Job


@dataclass
class Wave:
    """Jobs that may begin together.

    Attributes:
        jobs: in the order of their numbers.
        needs: ids of the jobs that must be done before.
        first: number of the first of them in the submission.
        sent: how many of them are queued so far.
    """

    jobs: tuple[Job, ...]
    needs: tuple[str, ...]
    first: int
    sent: int = 0

    @property
    def unsent(self) -> int:
        """How many jobs are not queued yet."""
        return len(self.jobs) - self.sent


def waves(jobs: Sequence[Job], *, stages: bool) -> list[Wave]:
    """Return the jobs in waves, each after those it needs; the order is kept within a wave.

    Args:
        jobs: each after those it names.
        stages: one wave for each stage; the jobs' own needs stay what they are.
    """
    level: dict[str, int] = {}
    found: dict[tuple[int, tuple[str, ...]], list[Job]] = {}
    for job in jobs:
        depth = 1 + max((level[need] for need in job.after if need in level), default=-1)
        level[job.id] = depth
        found.setdefault((depth, () if stages else tuple(sorted(job.after))), []).append(job)
    made: list[Wave] = []
    first = 0
    for (_, needs), some in sorted(found.items(), key=lambda item: item[0][0]):
        made.append(Wave(tuple(some), needs, first))
        first += len(some)
    return made
