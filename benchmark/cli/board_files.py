"""Boards in the terminal, and as files with their plot."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.console import WIDE, console
from advbench.benchmark.cli.read_records import RecordSource
from advbench.benchmark.files import write_bytes
from advbench.benchmark.records.schema import Record
from advbench.leaderboards import board

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.store import Store
    from advbench.leaderboards.table import Table
    from advbench.leaderboards.writers.latex import Layout

FORMATS = {"markdown": "md", "csv": "csv", "html": "html", "latex": "tex"}
"""Format → file name extension."""


def writer(
    kind: str, decimals: int | None = None, layout: "Layout | None" = None
) -> "Callable[[Sequence[Table]], str]":
    """Return the function that writes boards in a format.

    Args:
        kind: of FORMATS, or "terminal".
        decimals: places of accuracies, where the format rounds.
        layout: of LaTeX.
    """
    from advbench.leaderboards.writers import csv, html, latex, markdown, terminal

    writers: dict[str, Callable[[Sequence[Table]], str]] = {
        "terminal": lambda tables: "".join(
            terminal.write(part, width=_width(), decimals=decimals) for table in tables for part in table.whole
        ),
        "markdown": lambda tables: "\n".join(markdown.write(table, decimals=decimals) for table in tables),
        "csv": lambda tables: "".join(csv.write(table) for table in tables),
        "html": lambda tables: html.write(tables, decimals=decimals),
        "latex": lambda tables: latex.write(tables, layout),
    }
    return writers[kind]


def _width() -> int:
    return console().width if sys.stdout.isatty() else min(WIDE, 160)


def show_board(records: Sequence[Record], protocol: "Protocol") -> "Table":
    """Build a board and print it for people."""
    table = board.build(records, protocol)
    print_board(table)
    return table


def print_board(table: "Table", decimals: int | None = None) -> None:
    """Print a board for people, in the colours of a terminal if there is one."""
    if sys.stdout.isatty():
        from advbench.leaderboards.writers import terminal

        screen = console()
        for part in table.whole:
            screen.print(terminal.render(part, width=screen.width, decimals=decimals))
    else:
        click.echo(writer("terminal", decimals)([table]), nl=False)


def stale_files(tables: "Sequence[Table]", folder: Path) -> list[Path]:
    """Return the tables in a folder that are missing, differ from what their records give, or have no records."""
    expected = {
        folder / f"{table.protocol.replace('/', '-')}.{ending}": writer(kind)([table])
        for table in tables
        for kind, ending in FORMATS.items()
        if _has(table, kind)
    }
    there = [path for ending in FORMATS.values() for path in sorted(folder.glob(f"*.{ending}"))]
    odd = [path for path in there if path not in expected]
    return [*odd, *(path for path, text in expected.items() if not path.is_file() or path.read_text("utf-8") != text)]


def _has(table: "Table", kind: str) -> bool:
    """Whether a board is written in a format: LaTeX sets ranked rows, the others external rows alone, too."""
    return bool(table.rows or table.parts or (table.external and kind != "latex"))


def write_files(table: "Table", folder: Path, formats: Iterable[str] = FORMATS, *, plots: bool = True) -> list[Path]:
    """Write a board in several formats and its trade-off plot into a folder; return the paths."""
    from advbench.reports import tradeoff
    from advbench.reports.drawing.style import save

    folder.mkdir(parents=True, exist_ok=True)
    slug = table.protocol.replace("/", "-")
    written = []
    for kind in (kind for kind in formats if _has(table, kind)):
        path = folder / f"{slug}.{FORMATS[kind]}"
        write_bytes(path, writer(kind)([table]).encode())
        written.append(path)
    if plots and table.rows:
        written += save(tradeoff.draw(table), folder / f"{slug}-tradeoff", ("png", "pdf"))
    return written


def show_and_write(protocol: "Protocol", store: "Store", folder: Path) -> None:
    """Print the board of a protocol from the store, write its files, and say where they are.

    A board without AutoAttack yet gets no plot.
    """
    records, _ = RecordSource(protocol, store_root=store.root).load()
    if not records:
        click.echo(f"{protocol.name}: no results yet, so no board")
        return
    table = show_board(records, protocol)
    points = [point for record in records for point in record.checkpoints.values()]
    ranked = any("autoattack" in point.evaluation.columns for point in points)
    for path in write_files(table, folder, plots=ranked):
        click.echo(f"wrote {path}")
    if not ranked:
        click.echo("no plot: AutoAttack was not measured yet")
