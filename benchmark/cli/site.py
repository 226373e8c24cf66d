"""`advbench site`: boards, cards, protocols and records as a folder of web pages."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import out_folder
from advbench.benchmark.cli.read_records import RecordSource, records_options

if TYPE_CHECKING:
    from advbench.benchmark.records.schema import MethodIdentity
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

    from advbench.benchmark.protocol import published
    from advbench.leaderboards.site import compose, folder, write

    folder.check(out, source.records)
    shown = _shown(source)
    protocols = list(published().values()) if source.protocol is None else [source.protocol]
    every = {protocol.digest: protocol for protocol in [*protocols, *(filed.record.protocol for filed in shown.files)]}
    cards, methods = _cards()
    made = compose(
        shown.files,
        corrected=shown.corrected,
        protocols=protocols,
        cards=cards,
        methods=methods,
        toml={digest: tomli_w.dumps(protocol.canonical()) for digest, protocol in every.items()},
    )
    write(made, out)
    for warning in made.warnings:
        click.echo(f"note: {warning}", err=True)
    size = sum(len(content) for content in made.files.values())
    click.echo(f"wrote {len(made.files)} files, {size / 1e6:.1f} MB: open {out / 'index.html'}")


def _shown(source: RecordSource) -> "pages.Source":
    """Return what to show with its files; records of the store as if they were where publishing would put them.

    Raises:
        Refused: if the store has two runs that would be published at the same place.
    """
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


def _cards() -> "tuple[dict[str, str], list[MethodIdentity]]":
    """Return the card of every method in Markdown, and who they are.

    A method that cannot be cited says so in place of the entry.
    """
    from advbench.benchmark import discovery
    from advbench.benchmark.review.adapter import method_card
    from advbench.benchmark.runs import perform
    from advbench.leaderboards import bibtex, published_numbers
    from advbench.leaderboards.table import BoardError

    found, methods = {}, []
    for name in discovery.names():
        method = discovery.make(name)
        methods.append(perform.identify(method))
        try:
            citation = bibtex.entry(methods[-1])
        except BoardError as error:
            citation = f"% {error}"
        published = [row.model_dump() for row in published_numbers.load(name)]
        found[name] = method_card.render(type(method), citation, published)
    return found, methods
