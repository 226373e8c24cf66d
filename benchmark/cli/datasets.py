"""`advbench datasets`: the data sets, and how to get them."""

from pathlib import Path

import click

from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import data_option


@click.command(short_help="List the data sets and how to get them.")
@data_option
def datasets(*, data_root: Path | None) -> None:
    """List the data sets: which are here, verified or not, and how to get the others.

    \b
    Examples:
      advbench datasets
      advbench datasets --data ~/data
    """
    from advbench.benchmark.data import registry

    rows = [(data.name, data.state, data.where, data.detail) for data in registry.available(data_root)]
    click.echo(f"data root: {registry.data_root(data_root)}")
    print_table(("name", "state", "where", "detail"), rows)
