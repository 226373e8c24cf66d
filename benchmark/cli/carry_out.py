"""Have jobs done, here or on a cluster, and show how they go."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.progress import Display
from advbench.benchmark.runs.estimate import Estimate
from advbench.benchmark.runs.executors.base import JobFunction, Outcome
from advbench.benchmark.runs.executors.local import Local
from advbench.benchmark.runs.executors.slurm.sizing import Placement, cut, refuse_short
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.meter import Meter
from advbench.benchmark.runs.plan import Catalogue

if TYPE_CHECKING:
    from advbench.benchmark.runs.executors.slurm.executor import Queued
    from advbench.benchmark.runs.launch import Means

_UNKNOWN_SECONDS = 60.0
PERFORM = "advbench.benchmark.runs.perform:perform"


def carry_out(jobs: Sequence[Job], using: "Means", catalogue: Catalogue, until: float | None = None) -> Outcome | None:
    """Have jobs done, here no longer than `until`, and show how they go; return None if they are left to Slurm.

    Raises:
        DataError: if data are missing and cannot be had; one line that says how to get them.
        ExecutorError: if no job can be started at all.
    """
    from advbench.benchmark.runs.launch import estimates, make_ready

    make_ready({job.run.protocol.digest: job.run.protocol for job in jobs}.values(), using.data_root)
    expected, summary = estimates(jobs, using, catalogue)
    arguments = {
        "store_root": str(using.store.root.absolute()),
        "data_root": None if using.data_root is None else str(using.data_root.absolute()),
        "device": using.device,
        "threads": using.threads,
    }
    if using.placement is not None:
        outcome = _on_cluster(jobs, using, using.placement, (expected, catalogue), arguments)
        if outcome is None:
            return None
    else:
        click.echo(summary, err=True)
        executor = Local(using.store, using.workers, using.threads, using.gpus, until)
        with _display(expected, using) as display:
            outcome = executor.execute(jobs, JobFunction(PERFORM, arguments), display)
    for job, reason in outcome.failed:
        click.echo(f"failed: {job.label}: {reason}", err=True)
    if outcome.blocked:
        click.echo(f"{len(outcome.blocked)} jobs were not begun, since they need what failed", err=True)
    return outcome


def _display(expected: Mapping[str, Estimate], using: "Means") -> Display:
    seconds = {job: _UNKNOWN_SECONDS if found.seconds is None else found.seconds for job, found in expected.items()}
    return Display(Meter(seconds, using.workers))


def _on_cluster(
    jobs: Sequence[Job],
    using: "Means",
    placement: Placement,
    known: tuple[Mapping[str, Estimate], Catalogue],
    arguments: dict[str, Any],
) -> Outcome | None:
    """Queue jobs, and watch them unless they are to be left alone."""
    from advbench.benchmark.data import registry
    from advbench.benchmark.runs.executors.slurm.executor import Slurm, here
    from advbench.benchmark.runs.launch import choose_device, estimates

    reads = any(job.run.protocol.data.name != "digits" for job in jobs)
    root = registry.data_root(using.data_root).absolute()
    arguments = {**arguments, "data_root": str(root)}
    slurm = Slurm(using.store, placement.profile, here(), root if reads else None)
    _, profile = slurm.examine()
    expected, catalogue = known
    tried = using.device == "cpu" or choose_device("auto").type == "cuda"
    refuse_short(jobs, expected, profile, tried=tried)
    parts = cut(jobs, expected, profile)
    expected, summary = estimates(parts, using, catalogue)
    click.echo(summary, err=True)
    function = JobFunction(PERFORM, arguments)
    if placement.detach:
        _report(slurm.submit(parts, function))
        return None
    with _display(expected, using) as display:
        watching = replace(slurm, on_queue=display.note)
        try:
            return watching.execute(parts, function, display)
        except KeyboardInterrupt:
            display.note("jobs that are queued go on; `advbench status` shows them, `advbench cancel` ends them")
            raise


def _report(queued: "Queued") -> None:
    """Say what a command left in the queue."""
    names = queued.arrays if len(queued.arrays) <= 4 else (queued.arrays[0], "…", queued.arrays[-1])
    arrays = f" in {len(queued.arrays)} arrays ({', '.join(names)})" if queued.arrays else ""
    before = f", {queued.before} were queued before" if queued.before else ""
    click.echo(f"queued {queued.jobs} jobs{arrays}{before}; `advbench status` shows them, `advbench cancel` ends them")
    if queued.unsent:
        click.echo(f"{queued.unsent} jobs found no room in the queue; the same command queues them later", err=True)
