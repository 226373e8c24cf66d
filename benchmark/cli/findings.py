"""`advbench findings`: what the boards say about the claims of the founding papers."""

from pathlib import Path

import click

from advbench.benchmark.cli.options import OUT_FILE
from advbench.benchmark.cli.read_records import RecordSource, records_options


@click.command(short_help="Say what the boards say of the founding papers' claims.")
@records_options("Only this one.  [default: every published protocol that has records]")
@click.option("--out", type=OUT_FILE, help="Write the page here instead of printing it.")
def findings(*, source: RecordSource, out: Path | None) -> None:
    """Write a page of findings in Markdown: SGLR, DYNAT, D2R and ACT against the right comparators.

    Differences with intervals, robust-overfitting gaps, cost in passes, and the agreement of each board's order with
    published figures. Boards that lack a row, or have one seed, say so. Of a protocol the newest version is shown.

    \b
    Examples:
      advbench findings
      advbench findings --records leaderboards/records --out docs/findings.md
    """
    from advbench.benchmark.files import write_bytes
    from advbench.reports import findings as report

    found, _ = source.load()
    if not found:
        raise source.nothing()
    page = report.write(found)
    if out is None:
        click.echo(page, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, page.encode())
    click.echo(f"wrote {out}")
