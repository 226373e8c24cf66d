"""`advbench site`: boards, cards, protocols and records as a folder of web pages."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused, without
from advbench.benchmark.cli.options import out_folder
from advbench.benchmark.cli.read_records import RecordSource, records_options

if TYPE_CHECKING:
    from advbench.leaderboards import site as pages


@click.command(short_help="Write boards, cards and protocols as web pages.")
@records_options("Only this one.  [default: every published one, and all that have records]")
@out_folder("site")
def site(*, source: RecordSource, out: Path) -> None:
    """Write a static site: open index.html in a browser, or put the folder on any web server.

    Boards with sortable tables, a trade-off plot and comparisons; method cards; protocols; and every record file. A
    folder that holds other files than those of an earlier site is refused.

    \b
    Examples:
      advbench site
      advbench site --records leaderboards/records --out site
    """
    import tomli_w

    from advbench.benchmark.cli.methods import card
    from advbench.benchmark.protocol import published
    from advbench.leaderboards.site import compose, folder, write

    folder.check(out, source.records)
    shown = _shown(source)
    protocols = list(published().values()) if source.protocol is None else [source.protocol]
    every = {protocol.digest: protocol for protocol in [*protocols, *(filed.record.protocol for filed in shown.files)]}
    try:
        from advbench.benchmark import discovery

        cards = {name: card(name) for name in discovery.names()}
    except ModuleNotFoundError as error:  # adapters are code of torch: without it records tell who a method is
        click.echo(f"note: no method cards: {without(error)}", err=True)
        cards = {}
    made = compose(
        shown,
        protocols=protocols,
        cards={name: text for name, (_, text) in cards.items()},
        methods=[identity for identity, _ in cards.values()],
        toml={digest: tomli_w.dumps(protocol.canonical()) for digest, protocol in every.items()},
    )
    write(made, out)
    for warning in made.warnings:
        click.echo(f"note: {warning}", err=True)
    size = sum(len(content) for content in made.files.values())
    click.echo(f"wrote {len(made.files)} files, {size / 1e6:.1f} MB: open {out / 'index.html'}")


def _shown(source: RecordSource) -> "pages.Source":
    """Return what to show with its files; records of the store as if they were where publishing would put them."""
    from advbench.benchmark.records.publish import destination
    from advbench.leaderboards import site as pages

    if source.records is not None:
        shown = pages.load(source.records)
    else:
        found, _ = RecordSource(store_root=source.store_root).load()
        places = [PurePosixPath(destination(record, Path()).as_posix()) for record in found]
        shown = pages.Source(tuple(map(pages.Filed.of, found, places)))
    if source.protocol is not None:
        shown = shown.under(source.protocol.digest)
    taken: dict[PurePosixPath, str] = {}
    for filed in shown.files:
        other = taken.setdefault(filed.path, filed.record.run)
        if other != filed.record.run:
            raise Refused(
                f"runs {other} and {filed.record.run} both belong at {filed.path}: keep one, or give --records"
            )
    return shown
