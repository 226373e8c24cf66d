"""`advbench run-all`: from a suite to boards."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.cluster_options import cluster_options
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import (
    OUT_FOLDER,
    SuiteWords,
    Where,
    flag,
    method_option,
    suite_options,
    work_options,
)
from advbench.benchmark.runs.amounts import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from advbench.benchmark.runs.estimate import Estimate
    from advbench.benchmark.runs.executors.slurm.sizing import Placement
    from advbench.benchmark.runs.job import Job


@click.command("run-all", short_help="Train, attack and compare: whatever is missing.")
@suite_options
@method_option
@work_options
@click.option("--out", type=OUT_FOLDER, help="Folder for tables and plots.  [default: boards in the store]")
@flag("--dry-run", help="List what is to do with estimated time and disk; do nothing.")
@cluster_options
def run_all(*, asked: SuiteWords, where: Where, out: Path | None, dry_run: bool, placement: "Placement | None") -> None:
    """Train, attack and compare: whatever is missing, and nothing twice.

    Plans what the store does not hold yet (teachers included), does it, and writes the board of each protocol with
    a trade-off plot. Stop at any time; the same command goes on where it stopped.

    With --executor slurm the jobs go to a cluster as arrays (docs/cluster.md). They go on if this command ends; the
    same command attaches to them again, `advbench status` shows them, `advbench cancel` ends them.

    \b
    Examples:
      advbench run-all
      advbench run-all --protocol cifar10-linf-short --methods pgd_at,trades --seeds 0
      advbench run-all --protocol mine.toml --methods trades --set trades.beta=3.0
      advbench run-all --protocol cifar10-linf --methods mart,trades --own-recipe
      advbench run-all --suite paper.toml --jobs 2 --dry-run
      advbench run-all --suite paper.toml --executor slurm --partition gpu --gpus-per-node 1 --time 8:00:00
      advbench run-all --suite paper.toml --executor slurm --profile cluster.toml --parallel 16 --detach
    """
    from advbench.benchmark.cli.board_files import show_and_write
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.runs.launch import estimates, make_ready
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import plan, survey

    suite, store, known = asked.read(), where.store, catalogue()
    due = plan(suite, store, known)
    using = where.means(placement)
    if not due:
        click.echo("nothing to do: everything is trained and attacked already")
    elif dry_run:
        make_ready({job.run.protocol.digest: job.run.protocol for job in due}.values(), where.data_root, download=False)
        expected, summary = estimates(due, using, known)
        _list(due, expected)
        click.echo(summary)
    if dry_run:
        return
    failed = 0
    if due:
        outcome = carry_out(due, using, known)
        if outcome is None:
            return
        failed = len(outcome.failed) + len(outcome.blocked)
    for reason in dict.fromkeys(piece.reason for piece in survey(suite, store, known) if not piece.possible):
        click.echo(f"cannot be done: {reason}", err=True)
    for protocol in suite.protocols:
        show_and_write(protocol, store, out or store.root / "boards")
    if failed:
        raise Failed(f"{failed} jobs failed or were not begun; the same command tries them again")


def _list(due: "Sequence[Job]", expected: "Mapping[str, Estimate]") -> None:
    """Print one line for each run: what is to do and how long it is expected to take."""
    by_run: dict[str, list[Job]] = {}
    for job in due:
        by_run.setdefault(job.id.partition("-")[0], []).append(job)
    rows = []
    for jobs in by_run.values():
        seconds = [expected[job.id].seconds for job in jobs]
        about = duration(sum(value or 0.0 for value in seconds))
        rows.append((jobs[0].run.label, _parts(jobs), f"{about} or more" if None in seconds else about))
    print_table(("run", "to do", "about"), rows, right=["about"])


def _parts(jobs: "Sequence[Job]") -> str:
    """Return what jobs of one run do; the attacks on a checkpoint are named together."""
    parts = ["train"] if any(job.kind == "train" for job in jobs) else []
    for checkpoint in ("best", "last"):
        families = dict.fromkeys(str(job.family) for job in jobs if job.checkpoint == checkpoint)
        if families:
            parts.append(f"attack {checkpoint} ({', '.join(families)})")
    return ", ".join(parts)
