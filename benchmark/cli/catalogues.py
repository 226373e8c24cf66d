"""`advbench methods`, `protocols`, `datasets` and `doctor`: what there is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import FAILED
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import data_option, open_store, read_protocol, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol


@click.group(invoke_without_command=True, short_help="List the methods; show the card of one.")
@click.pass_context
def methods(ctx: click.Context) -> None:
    """List the methods; `show NAME` prints the card of one.

    \b
    Examples:
      advbench methods
      advbench methods show trades
    """
    if ctx.invoked_subcommand is not None:
        return
    from advbench.benchmark import discovery

    rows = []
    for name in discovery.names():
        card = discovery.load(name).card
        rows.append((name, card.label, card.family, card.cost, f"{card.venue} {card.year}"))
    print_table(("name", "label", "family", "passes per image", "paper"), rows)


@methods.command("show")
@click.argument("name")
def show_method(*, name: str) -> None:
    """Print the card of a method: paper, hyper-parameters, what differs from the release, published numbers.

    \b
    Example:
      advbench methods show trades
    """
    click.echo(_card(name), nl=False)


@methods.command("write")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def write_methods(*, folder: Path) -> None:
    """Write the card of every method as Markdown into FOLDER.

    \b
    Example:
      advbench methods write docs/methods
    """
    from advbench.benchmark import discovery

    folder.mkdir(parents=True, exist_ok=True)
    for name in discovery.names():
        (folder / f"{name}.md").write_text(_card(name), encoding="utf-8")
    click.echo(f"{len(discovery.names())} cards in {folder}")


def _card(name: str) -> str:
    """Return the card of a method as Markdown, with its published numbers and its citation."""
    from advbench.benchmark import discovery
    from advbench.benchmark.review.adapter import method_card
    from advbench.benchmark.runs import perform
    from advbench.leaderboards import bibtex, published_numbers

    method = discovery.make(name)
    published = [one.model_dump() for one in published_numbers.load(name)]
    return method_card.render(type(method), bibtex.entry(perform.identify(method)), published)


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
@click.argument("protocol", metavar="NAME|FILE.toml", type=read_protocol)
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

    rows = [(one.name, one.state, one.where, one.detail) for one in registry.available(data_root)]
    click.echo(f"data root: {registry.data_root(data_root)}")
    print_table(("name", "state", "where", "detail"), rows)


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
    from advbench.benchmark.runs.doctor import examine

    findings = examine(data_root, open_store(store_root).root)
    for finding in findings:
        click.echo(f"{finding.state:<8} {finding.topic}: {finding.found}")
        if finding.mend:
            click.echo(f"{'':<8} → {finding.mend}")
    broken = [finding for finding in findings if finding.state == "missing"]
    if broken:
        click.echo(f"{len(broken)} things are missing that every run needs")
        raise click.exceptions.Exit(FAILED)
    click.echo("ready")
