"""`advbench bibtex`: the entries that a table's citations need."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import OUT_FILE, method_option, methods_option, open_store
from advbench.benchmark.cli.read_records import RecordSource, records_options

if TYPE_CHECKING:
    from advbench.benchmark.records.schema import MethodIdentity


@click.command(short_help="Print the BibTeX entries of methods.")
@methods_option(help="Of these methods, recorded or not.")
@records_options()
@method_option
@click.option("--out", type=OUT_FILE, help="Write the file instead of printing it.")
def bibtex(*, methods: tuple[str, ...] | None, source: RecordSource, out: Path | None) -> None:
    """Print the BibTeX entries of the methods on boards: one for every \\cite of `leaderboard --format latex`.

    Entries come from the records, so that they fit the tables; methods that were named and have no record are cited as
    their cards are. A method that cannot be cited is named on stderr, and no table cites it.

    \b
    Examples:
      advbench bibtex --records leaderboards/records > robust.bib
      advbench bibtex --methods trades,mart --out robust.bib
    """
    from advbench.leaderboards import bibtex as citations
    from advbench.leaderboards.table import BoardError

    identities = _identities(source, methods)
    entries, problems = citations.gather(identities)
    for problem in problems:
        click.echo(f"no entry: {problem}", err=True)
    if not entries:
        raise BoardError("none of these methods can be cited: complete their cards")
    if out is None:
        click.echo(entries, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(entries, encoding="utf-8")
    click.echo(f"wrote {out}: {entries.count('@')} entries")


def _identities(source: RecordSource, names: tuple[str, ...] | None) -> "list[MethodIdentity]":
    """Return who the methods are: from records first, then from the cards of those that were named."""
    known = [record.method for record in source.load()[0]]
    if names is None:
        if not known:
            place = source.records or open_store(source.store_root).root
            raise Refused(f"{place}: no records; name methods with --methods, or another folder with --records")
        return known
    chosen: list[MethodIdentity] = []
    for name in names:
        spellings = {name.casefold(), name.casefold().replace("-", "_")}
        several = [method for method in known if spellings & {method.name.casefold(), method.label.casefold()}]
        chosen += several or [_card(name)]
    return chosen


def _card(name: str) -> "MethodIdentity":
    from advbench.benchmark import discovery
    from advbench.benchmark.runs import perform

    return perform.identify(discovery.make(name))
