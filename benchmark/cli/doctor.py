"""`advbench doctor`: what is missing on this machine, and how to fix it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import FAILED
from advbench.benchmark.cli.options import data_option, store_option

if TYPE_CHECKING:
    from advbench.benchmark.runs.store import Store


@click.command(short_help="Say what is missing and how to fix it.")
@data_option
@store_option
def doctor(*, data_root: Path | None, store: "Store") -> None:
    """Say what is here and what is missing, and how to fix it: versions, device, data, disk.

    Exit code 1 if something that every run needs is missing.

    \b
    Example:
      advbench doctor
    """
    from advbench.benchmark.review.doctor import examine

    findings = examine(data_root, store.root)
    for finding in findings:
        click.echo(finding)
    broken = [finding for finding in findings if finding.blocks]
    if broken:
        click.echo(f"{len(broken)} things are missing that every run needs")
        raise click.exceptions.Exit(FAILED)
    click.echo("ready")
