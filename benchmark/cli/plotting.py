"""`advbench plot`: from records to figures."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.boards import ONLY, RECORDS, collect
from advbench.benchmark.cli.options import FOLDER, read_names, read_protocol, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.reports.style import Look

FIGURES = {
    "tradeoff": "clean accuracy against AutoAttack, with the Pareto front",
    "overfitting": "from the best checkpoint to the last",
    "curves": "learning curves on the validation split",
    "cost": "AutoAttack against training passes per image",
    "stability": "places under each seed",
}
"""Kind of figure → what it shows; each is a module of `advbench.reports` with a function `draw`."""


@click.command(short_help="Draw figures from records.")
@click.argument("figure", type=click.Choice([*FIGURES, "all"]), default="tradeoff")
@click.option(
    "--protocol",
    type=read_protocol,
    metavar="NAME|FILE.toml",
    help=ONLY,
)
@click.option("--records", type=click.Path(path_type=Path), help=RECORDS)
@store_option
@click.option("--out", type=FOLDER, default=Path("figures"), show_default=True, help="Folder to write into.")
@click.option("--style", type=click.Choice(["paper", "slides"]), default="paper", show_default=True, help="Sizes.")
@click.option(
    "--formats", type=read_names, metavar="LIST", default="png,pdf", show_default=True, help="Among png, pdf, svg."
)
def plot(
    *,
    figure: str,
    protocol: "Protocol | None",
    records: Path | None,
    store_root: Path | None,
    out: Path,
    style: "Look",
    formats: tuple[str, ...],
) -> None:
    """Draw a FIGURE of each protocol's board; torch is not needed.

    \b
    tradeoff     clean accuracy against AutoAttack, with the Pareto front
    overfitting  from the best checkpoint to the last
    curves       learning curves on the validation split
    cost         AutoAttack against training passes per image
    stability    places under each seed
    all          each of them

    \b
    Examples:
      advbench plot
      advbench plot overfitting --protocol cifar10-linf --records leaderboards/records --out figures
      advbench plot all --style slides --formats svg
    """
    from importlib import import_module

    from advbench.leaderboards import board
    from advbench.reports.style import FORMATS, ReportError

    if unknown := [one for one in formats if one not in FORMATS]:
        raise Refused(f"no format {unknown[0]!r}; there are: {', '.join(FORMATS)}")
    for found in collect(records, store_root, protocol):
        out.mkdir(parents=True, exist_ok=True)
        table = board.build(found)
        for kind in FIGURES if figure == "all" else (figure,):
            of = found if kind == "curves" else table
            stem = out / f"{table.protocol.replace('/', '-')}-{kind}"
            try:
                written = import_module(f"advbench.reports.{kind}").draw(of, stem, formats=formats, look=style)
            except ReportError as error:
                if figure != "all":
                    raise
                click.echo(f"no figure of {kind}: {error}", err=True)
                continue
            for path in written:
                click.echo(f"wrote {path}")
