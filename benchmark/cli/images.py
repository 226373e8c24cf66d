"""`advbench images`: accuracy by class, the hardest images, agreement of methods."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.console import print_table, write_figure
from advbench.benchmark.cli.options import OUT_FOLDER, checkpoint_option, column_option, data_option
from advbench.benchmark.cli.read_records import RecordSource, labels_of, records_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@click.command(short_help="Classes, hardest images, agreement of methods.")
@records_options("Where there are several.")
@checkpoint_option()
@column_option
@click.option("--hardest", default=10, show_default=True, help="How many of the hardest images to list.")
@click.option("--out", type=OUT_FOLDER, help="Also write the figures into this folder.")
@data_option
def images(
    *, source: RecordSource, checkpoint: str, column: str, hardest: int, out: Path | None, data_root: Path | None
) -> None:
    """Show accuracy by class, the images that fool the most networks, and how far methods agree on images.

    \b
    Examples:
      advbench images --protocol digits-linf
      advbench images --protocol cifar10-linf --column worst --records leaderboards/records --out figures
    """
    import numpy as np

    from advbench.leaderboards import board
    from advbench.reports import agreement, perclass
    from advbench.reports.drawing.points import name_of
    from advbench.reports.row_outcomes import by_row, on_board

    found = source.of_one_protocol()
    rows = by_row(on_board(board.build(found), found, checkpoint), checkpoint, column)
    labelled = labels_of(found[0], data_root)
    title = f"{name_of(column)} on {checkpoint}"
    stem = f"{found[0].protocol.slug}-{column}"
    figures: dict[str, Callable[[], Figure]] = {}
    if labelled is not None:
        table = perclass.by_class(rows, *labelled)
        headings = [table.classes[number] for number in table.hardest()]
        body = [
            (name, *(f"{100 * share:.0f}" for share in shares[table.hardest()]))
            for name, shares in zip(table.rows, table.shares, strict=True)
        ]
        click.echo(f"{title} by class (%), hardest class first")
        print_table(("method", *headings), body, right=headings)
        figures["classes"] = partial(perclass.draw, table, title=title)
    alike = agreement.agree(rows)
    click.echo(
        f"\n{alike.networks} networks, {len(alike.fooled)} images: {alike.always} fool every network, "
        f"{alike.never} fool none"
    )
    listed = []
    for image, count in alike.hardest(hardest):
        name = () if labelled is None else (labelled[1][int(labelled[0][image])],)
        listed.append((image, f"{count} of {alike.networks}", *name))
    print_table(("image", "networks fooled", *(() if labelled is None else ("class",))), listed, right=["image"])
    click.echo("\nagreement on images, Cohen's kappa (1 the same, 0 by chance; diagonal: seeds among themselves)")
    cells = [
        (name, *(f"{value:.2f}" if np.isfinite(value) else "–" for value in values))
        for name, values in zip(alike.rows, alike.kappa, strict=True)
    ]
    print_table(("", *alike.rows), cells, right=alike.rows)
    if alike.networks > 1:
        figures["agreement"] = partial(agreement.draw, alike, title=title)
    for kind, draw in figures.items():
        if out is not None:
            write_figure(draw(), out / f"{stem}-{kind}")
