"""`advbench images`: accuracy by class, the hardest images, agreement of methods."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.image_outcomes import COLUMN, FORMATS, by_row, in_rows, labels_of, one_protocol
from advbench.benchmark.cli.options import FOLDER, RECORDS, data_option, read_protocol, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol


@click.command(short_help="Classes, hardest images, agreement of methods.")
@click.option("--protocol", type=read_protocol, metavar="NAME|FILE.toml", help="Where there are several.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True)
@click.option("--column", type=COLUMN, default="autoattack", show_default=True, help="Accuracy under which attack.")
@click.option("--hardest", default=10, show_default=True, help="How many of the hardest images to list.")
@click.option("--records", type=click.Path(path_type=Path), help=RECORDS)
@click.option("--out", type=FOLDER, help="Also write the figures into this folder.")
@store_option
@data_option
def images(
    *,
    protocol: "Protocol | None",
    checkpoint: str,
    column: str,
    hardest: int,
    records: Path | None,
    out: Path | None,
    store_root: Path | None,
    data_root: Path | None,
) -> None:
    """Show accuracy by class, the images that fool the most networks, and how far methods agree on images.

    \b
    Examples:
      advbench images --protocol digits-linf
      advbench images --protocol cifar10-linf --column worst --records leaderboards/records --out figures
    """
    from advbench.benchmark.cli.read_records import collect, protocol_of
    from advbench.reports import agreement, perclass
    from advbench.reports.drawing.points import name_of

    found = one_protocol(collect(records, store_root, protocol))
    rows = by_row(in_rows(found), checkpoint, column)
    there = labels_of(found, data_root)
    title = f"{name_of(column)} on {checkpoint}"
    stem = f"{protocol_of(found).slug}-{column}"
    written: list[Path] = []
    if there is not None:
        table = perclass.by_class(rows, *there)
        headings = [table.classes[number] for number in table.hardest()]
        body = [
            (name, *(f"{100 * share:.0f}" for share in shares[table.hardest()]))
            for name, shares in zip(table.rows, table.shares, strict=True)
        ]
        click.echo(f"{title} by class (%), hardest class first")
        print_table(("method", *headings), body, right=headings)
        if out is not None:
            written += perclass.draw(table, out / f"{stem}-classes", title=title, formats=FORMATS)
    alike = agreement.agree(rows)
    click.echo(
        f"\n{alike.networks} networks, {len(alike.fooled)} images: {alike.always} fool every network, "
        f"{alike.never} fool none"
    )
    said = ("image", "networks fooled", *(("class",) if there else ()))
    listed = [
        (image, f"{count} of {alike.networks}", *((there[1][int(there[0][image])],) if there else ()))
        for image, count in alike.hardest(hardest)
    ]
    print_table(said, listed, right=["image"])
    click.echo("\nagreement on images, Cohen's kappa (1 the same, 0 by chance; diagonal: seeds among themselves)")
    cells = [
        (name, *(f"{value:.2f}" if np.isfinite(value) else "–" for value in values))
        for name, values in zip(alike.rows, alike.kappa, strict=True)
    ]
    print_table(("", *alike.rows), cells, right=alike.rows)
    if out is not None:
        if alike.networks > 1:
            written += agreement.draw(alike, out / f"{stem}-agreement", title=title, formats=FORMATS)
        for path in written:
            click.echo(f"wrote {path}")
