"""`advbench methods`: the methods and their cards."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import METHOD

if TYPE_CHECKING:
    from advbench.benchmark.records.schema import MethodIdentity


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
@click.argument("name", metavar="NAME", type=METHOD)
def show_method(*, name: str) -> None:
    """Print the card of a method: paper, hyper-parameters, what differs from the release, published numbers.

    \b
    Example:
      advbench methods show trades
    """
    click.echo(card(name)[1], nl=False)


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
        (folder / f"{name}.md").write_text(card(name)[1], encoding="utf-8")
    click.echo(f"{len(discovery.names())} cards in {folder}")


def card(name: str) -> "tuple[MethodIdentity, str]":
    """Return who a method is, and its card as Markdown, with its published numbers and its citation, or why not."""
    from advbench.benchmark import discovery
    from advbench.benchmark.review.adapter import method_card
    from advbench.benchmark.runs import perform
    from advbench.leaderboards import bibtex, published_numbers
    from advbench.leaderboards.table import BoardError

    method = discovery.make(name)
    identity = perform.identify(method)
    try:
        citation = bibtex.entry(identity)
    except BoardError as error:
        citation = f"% {error}"
    published = [row.model_dump() for row in published_numbers.load(name)]
    return identity, method_card.render(type(method), citation, published)
