"""`advbench new-method`: the adapter, card and oracle test of a new method."""

from pathlib import Path

import click

from advbench.benchmark.cli.options import OUT_FOLDER, flag


@click.command("new-method", short_help="Begin a new defense: adapter, card, oracle test.")
@click.argument("name")
@click.option("--networks", type=click.Choice(["1", "2"]), default="1", show_default=True, help="2: target and guide.")
@flag("--teacher", help="It learns from a frozen teacher.")
@flag("--memory", help="It remembers something of every training image.")
@click.option("--out", type=OUT_FOLDER, default=Path(), help="Checkout, or any folder.  [default: here]")
def new_method(*, name: str, networks: str, teacher: bool, memory: bool, out: Path) -> None:
    """Write an adapter that runs, its card to fill in, and its oracle test, which fails until it is filled in.

    In a checkout the files go to methods/ and tests/oracle/, elsewhere the adapter alone into the folder.

    \b
    Examples:
      advbench new-method soft_margin
      advbench new-method my_distillation --networks 2 --teacher
    """
    from advbench.benchmark.review.adapter import scaffold

    written = scaffold.write(name, scaffold.Shape(int(networks), teacher, memory), out)
    for path in written:
        click.echo(f"wrote {path}")
    click.echo(f"next: fill in what says FILL IN, then `advbench check {written[0]} --quick`")
