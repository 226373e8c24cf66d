"""`advbench site`: boards, cards, protocols and records as a folder of web pages."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import FOLDER, open_store, read_protocol, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.schema import MethodIdentity
    from advbench.leaderboards.site import Source


@click.command(short_help="Write boards, cards and protocols as web pages.")
@click.option(
    "--records",
    type=click.Path(path_type=Path),
    help="Records folder to read instead of the store, such as leaderboards/records.",
)
@store_option
@click.option(
    "--protocol",
    type=read_protocol,
    metavar="NAME|FILE.toml",
    help="Only this one.  [default: every published one, and all that have records]",
)
@click.option("--out", type=FOLDER, default=Path("site"), show_default=True, help="Folder to write into.")
def site(*, records: Path | None, store_root: Path | None, protocol: "Protocol | None", out: Path) -> None:
    """Write a static site: open index.html in a browser, or put the folder on any web server.

    Boards with sortable tables, a trade-off plot and comparisons; method cards; protocols; and every record file. A
    folder that holds other files than those of an earlier site is refused.

    \b
    Examples:
      advbench site
      advbench site --records leaderboards/records --out site
    """
    from advbench.benchmark.cli.protocol_text import to_toml
    from advbench.benchmark.protocol import published
    from advbench.leaderboards.site import compose, folder, write

    folder.check(out, records)
    source = _source(records, store_root, protocol)
    protocols = list(published().values()) if protocol is None else [protocol]
    every = {one.digest: one for one in [*protocols, *_protocols(source)]}
    method_card, methods = _cards()
    made = compose(
        source.files,
        corrected=source.corrected,
        protocols=protocols,
        cards=method_card,
        methods=methods,
        toml={digest: to_toml(one) for digest, one in every.items()},
    )
    write(made, out)
    for warning in made.warnings:
        click.echo(f"note: {warning}", err=True)
    size = sum(len(content) for content in made.files.values())
    click.echo(f"wrote {len(made.files)} files, {size / 1e6:.1f} MB: open {out / 'index.html'}")


def _source(records: Path | None, store_root: Path | None, protocol: "Protocol | None") -> "Source":
    """Return what to show with its files; records of the store as if they were where publishing would put them.

    Raises:
        Refused: if the store has two runs that would be published at the same place.
    """
    from advbench.benchmark.cli.read_records import measured
    from advbench.benchmark.records.publish import destination
    from advbench.leaderboards.site import Filed, Source, load

    if records is not None:
        source = load(records)
    else:
        found = [record for _, record in open_store(store_root).records()]
        shown = [record for record in found if measured(record) or record.training.diverged is not None]
        source = Source(
            tuple(Filed.of(record, PurePosixPath(destination(record, Path()).as_posix())) for record in shown)
        )
    if protocol is not None:
        source = source.under(protocol.digest)
    taken: dict[PurePosixPath, str] = {}
    for filed in source.files:
        other = taken.setdefault(filed.path, filed.record.run)
        if other != filed.record.run:
            raise Refused(
                f"runs {other} and {filed.record.run} both belong at {filed.path}: keep one, or give --records"
            )
    return source


def _protocols(source: "Source") -> "list[Protocol]":
    """Return the protocols of records and of superseded ones."""
    from advbench.benchmark.protocol import Protocol

    every = [*(one.record for one in source.files), *(one.old.record for one in source.corrected)]
    return [Protocol.from_plain(record.protocol, f"record {record.run}") for record in every]


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
        published = [one.model_dump() for one in published_numbers.load(name)]
        found[name] = method_card.render(type(method), citation, published)
    return found, methods
