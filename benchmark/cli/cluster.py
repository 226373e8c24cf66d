"""Jobs on a cluster: the options of `--executor slurm`, what is refused before anything is queued, and `cancel`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.console import duration
from advbench.benchmark.cli.options import open_store, read_protocol, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.estimate import Estimate
    from advbench.benchmark.runs.executors.slurm.profile import Profile
    from advbench.benchmark.runs.executors.slurm.queue import Entry
    from advbench.benchmark.runs.job import Job
    from advbench.benchmark.runs.store import Store

F = TypeVar("F", bound=Callable[..., Any])
_MOST_GPU_THREADS = 8
_TARGET = 30 * 60.0
"""Seconds that a job with several shards is meant to take."""
_WORKERS = 4
"""Jobs that the shards of an expensive family are shared out to where nothing is known of their length."""
_DOUBT = 3.0
"""By how much an estimate from a short trial may be wrong before it is a reason to refuse."""
_OPTIONS = (
    click.option("--profile", type=click.Path(dir_okay=False, path_type=Path), help="Slurm: settings, a TOML file."),
    click.option("--partition", help="Slurm: partition."),
    click.option("--account", help="Slurm: account."),
    click.option("--qos", help="Slurm: quality of service."),
    click.option("--time", metavar="TIME", help="Slurm: limit of each job, such as 90 (minutes) or 8:00:00."),
    click.option("--gpus-per-node", metavar="[TYPE:]N", help="Slurm: GPUs of each job, such as 1 or a100:1."),
    click.option("--cpus-per-task", type=click.IntRange(1), help="Slurm: cores of each job.  [default: 1]"),
    click.option("--mem", metavar="SIZE", help="Slurm: memory of each job, such as 16G."),
    click.option("--constraint", metavar="FEATURES", help="Slurm: features of the nodes."),
    click.option("--parallel", type=click.IntRange(1), help="Slurm: jobs at once.  [default: as Slurm can]"),
    click.option("--shards-per-job", type=click.IntRange(1), help="Slurm: shards a job attacks.  [default: 30 min]"),
    click.option("--retries", type=click.IntRange(0), help="Slurm: tries after a failure.  [default: 2]"),
    click.option(
        "--sbatch", multiple=True, metavar="KEY[=VALUE]", help="Slurm: any other option of sbatch; repeatable."
    ),
    click.option("--setup", multiple=True, metavar="LINE", help="Slurm: a shell line before each job; repeatable."),
    click.option("--detach", is_flag=True, help="Slurm: queue the jobs and end; they go on."),
)
CLUSTER_NAMES = ("executor", *(str(option(lambda: None).__click_params__[0].name) for option in _OPTIONS))  # type: ignore[attr-defined]
"""Names of the parameters that `cluster_options` adds."""


def cluster_options(function: F) -> F:
    """Add `--executor` and the options of Slurm, which go to a parameter `**cluster`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    choice = click.Choice(["local", "slurm"])
    return click.option("--executor", type=choice, default="local", show_default=True, help="Where jobs run.")(function)


@dataclass(frozen=True)
class Placement:
    """Jobs go to Slurm: how, and whether the command waits for them."""

    profile: "Profile"
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


def placement(options: Mapping[str, Any]) -> Placement | None:
    """Return where jobs go; None: this machine.

    Raises:
        Refused: for options of Slurm without it.
        ProfileError: for settings that cannot be understood.
    """
    from advbench.benchmark.runs.executors.slurm.profile import option, profile

    told = {name: options[name] for name in CLUSTER_NAMES[1:]}
    given = {name: value for name, value in told.items() if value is not None and value is not False and value != ()}
    if options["executor"] != "slurm":
        if given:
            raise Refused(f"--{next(iter(given)).replace('_', '-')} is for --executor slurm")
        return None
    file, detach = given.pop("profile", None), bool(given.pop("detach", False))
    if "sbatch" in given:
        given["sbatch"] = option(given["sbatch"])
    return Placement(profile(file, given), detach)


def cut(jobs: "Sequence[Job]", expected: "Mapping[str, Estimate]", profile: "Profile") -> "list[Job]":
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


def _shards(job: "Job", expected: "Estimate", profile: "Profile") -> int:
    count = max(1, len(job.shards))
    if expected.seconds and expected.basis in {"measured", "scaled"}:
        limit = profile.minutes
        target = min(_TARGET, limit * 30) if limit else _TARGET
        return max(1, int(target * count / expected.seconds))
    if job.family in {"autoattack", "examination"}:
        return max(1, -(-count // (profile.parallel or _WORKERS)))
    return count


def refuse_short(jobs: "Sequence[Job]", expected: "Mapping[str, Estimate]", profile: "Profile", *, tried: bool) -> None:
    """Refuse a time limit in which not one epoch, or not one shard, can be finished.

    Args:
        jobs: what is to do.
        expected: what it will take, by job id.
        profile: with the time limit.
        tried: whether a short trial on this machine says anything about the nodes.

    Raises:
        Refused: in one line with what it would take.
    """
    limit = profile.minutes
    if limit is None:
        return
    room = limit * 60
    for job in jobs:
        one = expected[job.id]
        if one.seconds is None or (one.basis == "assumed" and not tried):
            continue
        unit, parts = ("epoch", job.run.protocol.training.epochs) if job.kind == "train" else ("shard", len(job.shards))
        needed = one.seconds / max(1, parts)
        if needed > room * (_DOUBT if one.basis == "assumed" else 1.0):
            raise Refused(
                f"--time {profile.time}: too short for one {unit} of {job.label}: about {duration(needed)}; "
                "a job goes on after each, so allow for some"
            )


@dataclass(frozen=True)
class InQueue:
    """What of a run is in Slurm's queue: "running" or "queued", and what Slurm and the jobs say."""

    label: str
    state: str
    said: str


def in_queue(store: "Store") -> dict[str, InQueue]:
    """Return the runs of which something is in Slurm's queue, by identity; says so where Slurm does not answer."""
    from advbench.benchmark.runs.executors.slurm.registry import FOLDER, Registry

    if not (store.root / FOLDER).is_dir():
        return {}
    from advbench.benchmark.runs.executors.base import ExecutorError
    from advbench.benchmark.runs.executors.slurm import queue

    try:
        found = queue.glance(Registry(store))
    except ExecutorError as error:
        click.echo(f"what is in Slurm's queue is not known: {error}", err=True)
        return {}
    by_run: dict[str, list[Entry]] = {}
    for entry in found:
        by_run.setdefault(entry.job.run.id, []).append(entry)
    return {
        identity: InQueue(
            entries[0].job.run.label,
            "running" if any(entry.task.state == "RUNNING" for entry in entries) else "queued",
            _counted(entry.said for entry in entries),
        )
        for identity, entries in by_run.items()
    }


def _counted(texts: Iterable[str]) -> str:
    return "; ".join(f"{count} {text}" for text, count in Counter(texts).items())


@click.command(short_help="Cancel jobs that wait or run on a cluster.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--protocol", "protocols", type=read_protocol, metavar="NAME|FILE.toml", multiple=True, help="Only these."
)
@store_option
def cancel(*, runs: tuple[str, ...], protocols: "tuple[Protocol, ...]", store_root: Path | None) -> None:
    """Cancel jobs of a store that wait or run in Slurm, and no others: all, or those of some RUNs or protocols.

    RUN is an identity as `advbench status` shows it, or the beginning of it. What is done stays; `run-all` goes on
    from there. Jobs that other people queued for the same store are theirs to cancel.

    \b
    Examples:
      advbench cancel
      advbench cancel 3fa9 77c1
      advbench cancel --protocol cifar10-linf-short --store /shared/runs
    """
    from advbench.benchmark.runs.executors.slurm import commands, queue
    from advbench.benchmark.runs.executors.slurm.registry import Registry

    registry = Registry(open_store(store_root))
    found = queue.glance(registry)
    wanted = [entry for entry in found if _chosen(entry, runs, protocols)]
    for run in runs:
        if not any(entry.job.run.id.startswith(run) for entry in found):
            raise Refused(f"no job of run {run!r} is in the queue; `advbench status` lists the runs")
    mine = [entry for entry in wanted if entry.task.user == commands.me()]
    if not wanted:
        click.echo("nothing to cancel: none of the store's jobs is in the queue")
        return
    with registry.locked():
        commands.cancel(_keys(mine, found))
        gone: dict[Path, list[Entry]] = {}
        for entry in mine:
            gone.setdefault(entry.submission.path, []).append(entry)
        for entries in gone.values():
            entries[0].submission.settle([entry.part for entry in entries], "cancelled", "cancelled")
            for entry in entries:
                entry.submission.end_live(entry.part)
    click.echo(f"cancelled {len(mine)} jobs")
    others = sorted({entry.task.user for entry in wanted} - {commands.me()})
    if others:
        count = len(wanted) - len(mine)
        raise Failed(f"{count} jobs were queued by {', '.join(others)}, who alone can cancel them")


def _chosen(entry: "Entry", runs: tuple[str, ...], protocols: "tuple[Protocol, ...]") -> bool:
    run = entry.job.run
    named = not runs or any(word and run.id.startswith(word) for word in runs)
    return named and (not protocols or run.protocol.digest in {protocol.digest for protocol in protocols})


def _keys(chosen: "Sequence[Entry]", found: "Sequence[Entry]") -> list[str]:
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
