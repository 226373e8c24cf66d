"""`advbench status`: what of a store is done, running, missing or failed."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import SuiteWords, store_option, suite_options

if TYPE_CHECKING:
    from advbench.benchmark.runs.status import RunStatus
    from advbench.benchmark.runs.store import Store


@click.command(short_help="Show what is done, running, missing, failed.")
@suite_options
@store_option
def status(*, asked: SuiteWords, store: "Store") -> None:
    """Show which runs are done, partly done, running, missing, failed or blocked, and what of them is in Slurm's queue.

    Without a suite: every run that the store holds or that is queued. With the options of `run-all`: every run that
    it would need. Exit code 1 if a run has failed.

    \b
    Examples:
      advbench status
      advbench status --protocol cifar10-linf-short --methods all
    """
    from advbench.benchmark.runs.executors.base import ExecutorError
    from advbench.benchmark.runs.executors.slurm.queue import by_run
    from advbench.benchmark.runs.status import RunStatus, stored_status

    try:
        queued = by_run(store)
    except ExecutorError as error:
        click.echo(f"what is in Slurm's queue is not known: {error}", err=True)
        queued = {}
    if asked.given:
        from advbench.benchmark.runs.perform import catalogue
        from advbench.benchmark.runs.status import status as look

        runs = look(store, asked.read(), catalogue())
    else:
        runs = tuple(stored_status(folder) for folder in store.folders())
        new = queued.keys() - {run.id for run in runs}
        runs += tuple(
            RunStatus(identity, found.label, "missing") for identity, found in queued.items() if identity in new
        )
    if not runs:
        click.echo(f"{store.root}: no runs yet; `advbench run-all` makes some")
        return
    # What is queued is neither missing nor given up, whatever became of it before.
    states = {run.id: queued[run.id].state if run.id in queued else run.state for run in runs}
    reasons = {run.id: [*([queued[run.id].message] if run.id in queued else []), *run.reasons] for run in runs}
    rows = [(run.id[:8], run.label, states[run.id], _attacks(run), "; ".join(reasons[run.id])) for run in runs]
    print_table(("run", "protocol, method, seed", "state", "attacked", "why"), rows, right=["attacked"])
    counts = Counter(states[run.id] for run in runs)
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))
    for log in dict.fromkeys(log for run in runs for log in run.logs):
        click.echo(f"log: {log}")
    if counts.get("failed"):
        raise Failed(f"{counts['failed']} runs failed; `advbench run-all` tries them again")


def _attacks(run: "RunStatus") -> str:
    return f"{run.done}/{run.total}" if run.total else "–"
