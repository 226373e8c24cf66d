"""`advbench doctor`: what is missing on this machine, and how to fix it."""

from pathlib import Path

import click

from advbench.benchmark.cli.app import FAILED
from advbench.benchmark.cli.options import data_option, open_store, store_option


@click.command(short_help="Say what is missing and how to mend it.")
@data_option
@store_option
def doctor(*, data_root: Path | None, store_root: Path | None) -> None:
    """Say what is here and what is missing, and how to mend it: versions, device, data, disk.

    Exit code 1 if something that every run needs is missing.

    \b
    Example:
      advbench doctor
    """
    from advbench.benchmark.review.doctor import examine

    findings = examine(data_root, open_store(store_root).root)
    for finding in findings:
        click.echo(finding)
    broken = [finding for finding in findings if finding.blocks]
    if broken:
        click.echo(f"{len(broken)} things are missing that every run needs")
        raise click.exceptions.Exit(FAILED)
    click.echo("ready")
