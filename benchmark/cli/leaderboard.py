"""`advbench leaderboard`: from records to tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.board_options import Choice, read_layout, selecting, setting
from advbench.benchmark.cli.options import FOLDER, records_options

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.leaderboards.table import Table

SEVERAL = "boards differ in their protocols; choose one with --protocol: "


@click.command(short_help="Print boards from records.")
@records_options
@click.option(
    "--format",
    "kind",
    type=click.Choice(["terminal", "markdown", "csv", "html", "latex"]),
    default="terminal",
    show_default=True,
    help="What to print.",
)
@selecting
@click.option("--published", is_flag=True, help="Add numbers from papers and repositories, apart and never ranked.")
@click.option("--history", is_flag=True, help="Print what was corrected instead: records replaced or withdrawn.")
@click.option("--decimals", type=click.IntRange(0, 6), help="Of accuracies.  [default: as many as the images support]")
@setting
@click.option("--out", type=FOLDER, help="Also write the whole boards in every format, with trade-off plots.")
@click.option("--check", is_flag=True, help="Compare the tables in --out with their records; write nothing.")
def leaderboard(
    *,
    protocol: "Protocol | None",
    records: Path | None,
    store_root: Path | None,
    kind: str,
    choice: Choice,
    published: bool,
    history: bool,
    decimals: int | None,
    layout: dict[str, Any],
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
    from advbench.benchmark.cli.read_records import build

    if layout and kind != "latex":
        words = ", ".join(f"--{'width' if name == 'span' else name.replace('_', '-')}" for name in layout)
        raise Refused(f"{words}: only with --format latex")
    if decimals is not None and kind == "csv":
        raise Refused("--decimals: CSV has every digit")
    tables = build(records, store_root, protocol, published=published)
    if check:
        _check(tables, out)
        return
    if history:
        click.echo(_history(tables, kind), nl=False)
        return
    _print(choice.apply(tables), kind, choice, decimals, layout)
    if out is not None:
        for path in [path for table in tables for path in write_files(table, out)]:
            click.echo(f"wrote {path}", err=True)


def _check(tables: "list[Table]", out: Path | None) -> None:
    """Compare the tables in a folder with boards.

    Raises:
        Refused: without a folder.
        Failed: naming the files that are missing, differ or have no records.
    """
    from advbench.benchmark.cli.board_files import stale_files

    if out is None:
        raise Refused("--check compares the tables in a folder: name it with --out")
    stale = stale_files(tables, out)
    if stale:
        names = ", ".join(str(path) for path in stale)
        raise Failed(f"not what the records say: {names}; `advbench leaderboard --out {out}` writes them anew")
    click.echo(f"{out}: every table is what its records say")


def _print(chosen: "list[Table]", kind: str, choice: Choice, decimals: int | None, layout: dict[str, Any]) -> None:
    """Print boards in a format.

    Raises:
        Refused: for several boards in a format that holds one.
    """
    from advbench.benchmark.cli.board_files import print_board, writer

    if len(chosen) > 1 and (kind == "csv" or (kind == "latex" and "group_by" not in layout)):
        names = ", ".join(sorted(table.protocol for table in chosen))
        raise Refused(f"{SEVERAL}{names}{'; or set them apart with --group-by' if kind == 'latex' else ''}")
    if kind == "terminal":
        for table in chosen:
            print_board(table, decimals)
    else:
        write = writer(kind, decimals, read_layout(layout, choice.columns, decimals) if kind == "latex" else None)
        click.echo(write(chosen), nl=False)


def _history(tables: "list[Table]", kind: str) -> str:
    """Return the corrections of boards in a format.

    Raises:
        Refused: for a format they are not written in.
    """
    from advbench.leaderboards import correction_notes

    writers = {
        "terminal": correction_notes.write_text,
        "markdown": correction_notes.write_markdown,
        "csv": correction_notes.write_csv,
    }
    if kind not in writers:
        raise Refused(f"--history: {kind} shows it below the board; print it as {', '.join(writers)}")
    return writers[kind](tables)
