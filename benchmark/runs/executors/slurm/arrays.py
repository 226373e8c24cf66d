"""From jobs to arrays: which jobs go together, and what they wait for. Torch-free.

Jobs that wait for the same jobs form an array, which Slurm starts as soon as those are done: training without teachers
is one array, the students of one teacher are one, the attacks on one network are one. Where no more than so many jobs
may run at once (`parallel`), arrays of that kind would not do, since Slurm's throttle holds for one array alone; there
an array is a stage (what waits for nothing, then what waits for that, …) and arrays come one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from advbench.benchmark.runs.job import Job


@dataclass(frozen=True)
class Group:
    """Jobs that may begin at the same time; `needs` are ids of the jobs that must be done before."""

    jobs: tuple[Job, ...]
    needs: tuple[str, ...]


def groups(jobs: Sequence[Job], *, stages: bool) -> tuple[Group, ...]:
    """Return the jobs in groups, each after those it needs; the order is kept within a group.

    Args:
        jobs: each after those it names.
        stages: one group for each stage; the jobs' own needs stay what they are.
    """
    level: dict[str, int] = {}
    found: dict[tuple[int, tuple[str, ...]], list[Job]] = {}
    for job in jobs:
        depth = 1 + max((level[one] for one in job.after if one in level), default=-1)
        level[job.id] = depth
        found.setdefault((depth, () if stages else tuple(sorted(job.after))), []).append(job)
    return tuple(Group(tuple(found[key]), key[1]) for key in sorted(found, key=lambda key: key[0]))
