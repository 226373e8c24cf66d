"""`advbench protocols`: the published protocols."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
import tomli_w

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
            protocol.threat.text,
            protocol.training.epochs,
            protocol.digest[:12],
        )
        for protocol in published().values()
    ]
    print_table(("name", "data", "network", "threat", "epochs", "digest"), rows, right=["epochs"])


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
    if kind == "json":
        click.echo(json.dumps(protocol.canonical(), indent=2))
    elif kind == "toml":
        click.echo(tomli_w.dumps(protocol.canonical()), nl=False)
    else:
        click.echo(_describe(protocol), nl=False)


def _describe(protocol: "Protocol") -> str:
    """Return the protocol for people: digest first, then every key, one a line."""
    lines = [
        protocol.name,
        protocol.summary,
        f"{'official' if protocol.official else 'unofficial'}, sha256 {protocol.digest}",
        "",
    ]
    keys = [(key, value) for key, value in _flat(protocol.canonical()) if key not in {"name", "summary"}]
    width = max(len(key) for key, _ in keys)
    lines += [f"{key:<{width}}  {value}" for key, value in keys]
    return "\n".join(lines) + "\n"


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
