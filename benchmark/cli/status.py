"""`advbench status`: what of a store is done, running, missing or failed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import SuiteWords, store_option, suite_options

if TYPE_CHECKING:
    from advbench.benchmark.runs.executors.slurm.queue import Entry
    from advbench.benchmark.runs.run_folder import RunFolder
    from advbench.benchmark.runs.status import RunStatus
    from advbench.benchmark.runs.store import Store


@click.command(short_help="Show what is done, running, missing, failed.")
@suite_options
@store_option
def status(*, asked: SuiteWords, store: "Store") -> None:
    """Show which runs are done, running, missing, failed or blocked, and what of them is in Slurm's queue.

    Without a suite: every run that the store holds or that is queued. With the options of `run-all`: every run that
    it would need. Exit code 1 if a run has failed.

    \b
    Examples:
      advbench status
      advbench status --protocol cifar10-linf-short --methods all
    """
    queued = in_queue(store)
    if asked.given:
        from advbench.benchmark.runs.perform import catalogue
        from advbench.benchmark.runs.status import status as look

        runs = look(store, asked.read(), catalogue()).runs
    else:
        runs = tuple(_stored(folder) for folder in store.folders())
        stored = {run.id for run in runs}
        runs += tuple(_waiting(identity, one.label) for identity, one in queued.items() if identity not in stored)
    if not runs:
        click.echo(f"{store.root}: no runs yet; `advbench run-all` makes some")
        return
    # What is queued is neither missing nor given up, whatever became of it before.
    states = {run.id: queued[run.id].state if run.id in queued else run.state for run in runs}
    reasons = {run.id: [*([queued[run.id].said] if run.id in queued else []), *run.reasons] for run in runs}
    rows = [(run.id[:8], run.label, states[run.id], _attacks(run), "; ".join(reasons[run.id])) for run in runs]
    print_table(("run", "protocol, method, seed", "state", "attacked", "why"), rows, right=["attacked"])
    counts = Counter(states[run.id] for run in runs)
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))
    for log in dict.fromkeys(log for run in runs for log in run.logs):
        click.echo(f"log: {log}")
    if counts.get("failed"):
        raise Failed(f"{counts['failed']} runs failed; `advbench run-all` tries them again")


def _waiting(identity: str, label: str) -> "RunStatus":
    """Return where a run stands that is queued, and of which the store knows nothing yet."""
    from advbench.benchmark.runs.status import RunStatus

    return RunStatus(identity, label, "missing", trained=False, done=0, total=0, reasons=(), logs=())


def _attacks(run: "RunStatus") -> str:
    return f"{run.done}/{run.total}" if run.total else "–"


def _stored(folder: "RunFolder") -> "RunStatus":
    """Return where a run of the store stands, whatever suite it was made for."""
    from advbench.benchmark.records.schema import FAMILIES
    from advbench.benchmark.runs.plan import State
    from advbench.benchmark.runs.run_folder import StoreError
    from advbench.benchmark.runs.status import RunStatus

    try:
        label = folder.spec.label
    except StoreError as error:
        return RunStatus(
            folder.id, folder.path.name, "failed", trained=False, done=0, total=0, reasons=(str(error),), logs=()
        )
    scan = folder.scan()
    done = total = 0
    if scan.trained is not None:
        shards = folder.spec.protocol.shards(scan.trained.data.test)
        total = shards * len(FAMILIES) * len(scan.trained.checkpoints)
        done = sum(len(found) for found in scan.shards.values())
    state: State = "missing"
    if scan.failures:
        state = "failed"
    elif scan.held:
        state = "running"
    elif scan.trained is not None and done >= total:
        state = "done"
    reasons = tuple(dict.fromkeys([one.reason for one in scan.failures] or list(scan.held.values())))
    logs = tuple(dict.fromkeys(one.log for one in scan.failures))
    return RunStatus(folder.id, label, state, scan.trained is not None, done, total, reasons, logs)


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
