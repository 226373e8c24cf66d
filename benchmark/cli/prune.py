"""`advbench prune`: what of a store may go."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import FILE, FOLDER, flag, store_option
from advbench.benchmark.runs.amounts import size

if TYPE_CHECKING:
    from advbench.benchmark.runs.store import Store


@click.command(short_help="Show, then remove, what no board needs.")
@click.option(
    "--suite",
    "suites",
    type=FILE,
    multiple=True,
    help="Keep only runs of this suite file, of --records, and their teachers; repeatable.",
)
@click.option("--records", type=FOLDER, help="Keep only runs published in this folder, of --suite, and their teachers.")
@flag("--yes", help="Remove without asking.")
@store_option
def prune(*, suites: tuple[Path, ...], records: Path | None, store: "Store", yes: bool) -> None:
    """Show, then remove, what no board needs.

    Without --suite and --records all runs stay, and only training states of finished runs and left-overs of killed
    processes go. Runs that somebody works on, and files that advbench did not write, are never touched.

    \b
    Examples:
      advbench prune
      advbench prune --suite paper.toml --records leaderboards/records
    """
    from advbench.benchmark.runs import prune as pruning

    found = pruning.find(store, _kept(suites, records))
    if not found:
        click.echo(f"{store.root}: nothing to remove")
        return
    rows = [
        (item.run.id[:8], item.label, "whole run" if item.whole else "files", size(item.bytes), item.reason)
        for item in found
    ]
    print_table(("run", "protocol, method, seed", "what", "size", "why"), rows, right=["size"])
    total = f"{len(found)} items, {size(sum(item.bytes for item in found))}"
    if not yes and not sys.stdin.isatty():
        click.echo(f"{total}; nothing was removed: add --yes")
        return
    if not yes and not click.confirm(f"Remove {total}?", default=False):
        click.echo("nothing was removed")
        return
    click.echo(f"removed {size(pruning.remove(found))}")


def _kept(suites: tuple[Path, ...], records: Path | None) -> set[str] | None:
    """Return the runs to keep; None keeps all."""
    if not suites and records is None:
        return None
    kept: set[str] = set()
    for suite in suites:
        from advbench.benchmark.runs.perform import catalogue
        from advbench.benchmark.runs.plan import runs
        from advbench.benchmark.runs.suites import from_file

        kept |= {run.spec.id for run in runs(from_file(suite), catalogue())}
    if records is not None:
        from advbench.leaderboards.board import load_records

        kept |= {record.run for record in load_records(records)}
    return kept
