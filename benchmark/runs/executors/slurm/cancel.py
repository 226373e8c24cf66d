"""Cancel jobs that wait or run in Slurm, so that nothing takes them for lost. Torch-free."""

from collections.abc import Sequence
from pathlib import Path

from advbench.benchmark.runs.executors.slurm import commands
from advbench.benchmark.runs.executors.slurm.queue import QueuedJob
from advbench.benchmark.runs.executors.slurm.registry import Registry


def cancel_jobs(registry: Registry, chosen: Sequence[QueuedJob], found: Sequence[QueuedJob]) -> None:
    """Cancel jobs and settle them in the store's registry.

    Args:
        registry: of the store.
        chosen: jobs of this user.
        found: all of the store's jobs in the queue.
    """
    with registry.locked():
        commands.cancel(_keys(chosen, found))
        by_submission: dict[Path, list[QueuedJob]] = {}
        for entry in chosen:
            by_submission.setdefault(entry.submission.path, []).append(entry)
        for entries in by_submission.values():
            entries[0].submission.settle([entry.part for entry in entries], "cancelled", "cancelled")
            for entry in entries:
                entry.submission.end_live(entry.part)


def _keys(chosen: Sequence[QueuedJob], found: Sequence[QueuedJob]) -> list[str]:
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
