"""`advbench protocols`: the published protocols."""

import json
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import PROTOCOL

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol


@click.group(invoke_without_command=True, short_help="List the published protocols; show one.")
@click.pass_context
def protocols(ctx: click.Context) -> None:
    """List the published protocols; `show NAME` prints one in full.

    \b
    Examples:
      advbench protocols
      advbench protocols show cifar10-linf
      advbench protocols show cifar10-linf --toml > mine.toml
    """
    if ctx.invoked_subcommand is not None:
        return
    from advbench.benchmark.protocol import published

    rows = [
        (
            protocol.name,
            protocol.data.name,
            protocol.network,
            protocol.threat.eps,
            protocol.training.epochs,
            protocol.digest[:12],
        )
        for protocol in published().values()
    ]
    print_table(("name", "data", "network", "eps", "epochs", "digest"), rows, right=["eps", "epochs"])


@protocols.command("show")
@click.argument("protocol", metavar="NAME|FILE.toml", type=PROTOCOL)
@click.option("--toml", "kind", flag_value="toml", help="As the TOML file to copy and change.")
@click.option("--json", "kind", flag_value="json", help="As canonical JSON, of which the digest is taken.")
def show_protocol(*, protocol: "Protocol", kind: str | None) -> None:
    """Print a protocol in full, defaults included, with its digest.

    \b
    Examples:
      advbench protocols show cifar10-linf
      advbench protocols show mine.toml
    """
    from advbench.benchmark.cli.protocol_text import describe, to_toml

    if kind == "json":
        click.echo(json.dumps(protocol.canonical(), indent=2))
    elif kind == "toml":
        click.echo(to_toml(protocol), nl=False)
    else:
        click.echo(describe(protocol), nl=False)
