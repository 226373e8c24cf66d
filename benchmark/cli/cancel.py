"""`advbench cancel`: jobs that wait or run on a cluster."""

from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.options import RUN, protocol_option, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.executors.slurm.queue import QueuedJob
    from advbench.benchmark.runs.store import Store


@click.command(short_help="Cancel jobs that wait or run on a cluster.")
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=RUN)
@protocol_option("protocols", multiple=True, help="Only these.")
@store_option
def cancel(*, runs: tuple[str, ...], protocols: "tuple[Protocol, ...]", store: "Store") -> None:
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

    registry = Registry(store)
    found = queue.jobs_in_queue(registry)
    wanted = [entry for entry in found if _chosen(entry, runs, protocols)]
    for run in runs:
        if not any(entry.job.run.id.startswith(run) for entry in found):
            raise Refused(f"no job of run {run!r} is in the queue; `advbench status` lists the runs")
    if not wanted:
        click.echo("nothing to cancel: none of the store's jobs is in the queue")
        return
    mine = [entry for entry in wanted if entry.task.user == commands.me()]
    queue.cancel_jobs(registry, mine, found)
    click.echo(f"cancelled {len(mine)} jobs")
    others = sorted({entry.task.user for entry in wanted} - {commands.me()})
    if others:
        count = len(wanted) - len(mine)
        raise Failed(f"{count} jobs were queued by {', '.join(others)}, who alone can cancel them")


def _chosen(entry: "QueuedJob", runs: tuple[str, ...], protocols: "tuple[Protocol, ...]") -> bool:
    run = entry.job.run
    named = not runs or any(word and run.id.startswith(word) for word in runs)
    return named and (not protocols or run.protocol.digest in {protocol.digest for protocol in protocols})
