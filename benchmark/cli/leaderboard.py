"""`advbench leaderboard`: from records to tables."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.board_options import Choice, Format, choice_options, format_options
from advbench.benchmark.cli.options import OUT_FOLDER, flag
from advbench.benchmark.cli.read_records import RecordSource, records_options

if TYPE_CHECKING:
    from advbench.leaderboards.table import Table


@click.command(short_help="Print boards from records.")
@records_options()
@format_options
@choice_options
@flag("--published", help="Add numbers from papers and repositories, apart and never ranked.")
@flag("--history", help="Print what was corrected instead: records replaced or withdrawn.")
@click.option("--out", type=OUT_FOLDER, help="Also write the whole boards in every format, with trade-off plots.")
@flag("--check", help="Compare the tables in --out with their records; write nothing.")
def leaderboard(
    *,
    source: RecordSource,
    form: Format,
    choice: Choice,
    published: bool,
    history: bool,
    out: Path | None,
    check: bool,
) -> None:
    """Print the board of each protocol from the records there are; torch is not needed.

    Whatever is left out or sorted, ranks are those of the whole board.

    \b
    Examples:
      advbench leaderboard
      advbench leaderboard --dataset cifar10 --family "weight perturbation" --sort clean:desc
      advbench leaderboard --protocol cifar10-linf --format latex --venue cvpr --blocks per-attack
      advbench leaderboard --format latex --group-by dataset --width double --second
      advbench leaderboard --records leaderboards/records --history
      advbench leaderboard --records leaderboards/records --out leaderboards/tables --check
    """
    from advbench.benchmark.cli.board_files import write_files

    tables = source.boards(published=published)
    if check:
        _check(tables, out)
        return
    if history:
        click.echo(_history(tables, form.kind), nl=False)
        return
    _print(choice.apply(tables), form, choice)
    if out is not None:
        for path in [path for table in tables for path in write_files(table, out)]:
            click.echo(f"wrote {path}", err=True)


def _check(tables: "list[Table]", out: Path | None) -> None:
    """Compare the tables in a folder with boards."""
    from advbench.benchmark.cli.board_files import stale_files

    if out is None:
        raise Refused("--check compares the tables in a folder: name it with --out")
    stale = stale_files(tables, out)
    if stale:
        names = ", ".join(str(path) for path in stale)
        raise Failed(f"not what the records say: {names}; `advbench leaderboard --out {out}` writes them anew")
    click.echo(f"{out}: every table is what its records say")


def _print(chosen: "list[Table]", form: Format, choice: Choice) -> None:
    """Print boards in a format."""
    from advbench.benchmark.cli.board_files import print_board, writer

    if len(chosen) > 1 and (form.kind == "csv" or (form.kind == "latex" and "group_by" not in form.latex)):
        names = ", ".join(sorted(table.protocol for table in chosen))
        grouped = "; or set them apart with --group-by" if form.kind == "latex" else ""
        raise Refused(f"boards differ in their protocols; choose one with --protocol: {names}{grouped}")
    if form.kind == "terminal":
        for table in chosen:
            print_board(table, form.decimals)
    else:
        layout = form.layout(choice.filters.get("columns"))
        click.echo(writer(form.kind, form.decimals, layout)(chosen), nl=False)


def _history(tables: "list[Table]", kind: str) -> str:
    """Return the corrections of boards in a format."""
    from advbench.leaderboards import correction_notes

    writers = {
        "terminal": correction_notes.write_text,
        "markdown": correction_notes.write_markdown,
        "csv": correction_notes.write_csv,
    }
    if kind not in writers:
        raise Refused(f"--history: {kind} shows it below the board; print it as {', '.join(writers)}")
    return writers[kind](tables)
