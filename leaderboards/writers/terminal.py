"""Show a board in the terminal."""

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from advbench.leaderboards.table import ELSEWHERE, Cell, Column, Row, Table, show

COLUMNS = ("rank", "method", "checkpoint", "clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "seeds")
"""What fits a terminal; the files hold every column."""


def render(table: Table, *, width: int, decimals: int | None = None) -> Group:
    """Return what `rich` prints: the columns that fit a terminal, short headings, then the notes.

    Where the width does not hold standard deviations they are left to the files, and a note says so. A board that was
    selected to other columns is shown with those.
    """
    places = table.decimals if decimals is None else decimals
    keys = {column.key for column in table.columns}
    shown = table.select(columns=COLUMNS) if keys > set(COLUMNS) else table
    below = [note.text for note in shown.notes]
    grid = _grid(shown, places, spread=True)
    console = Console(width=10_000)
    if Measurement.get(console, console.options, grid).maximum > width:
        grid = _grid(shown, places, spread=False)
        below.append("Standard deviations do not fit this width; the files hold them.")
    quoted = [_quoted(table)] if table.published else []
    return Group(grid, *quoted, *(Text(text, style="dim") for text in below))


def write(table: Table, *, decimals: int | None = None, width: int = 120) -> str:
    """Return the board as plain text of a given width, without colours."""
    console = Console(width=width, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(render(table, width=width, decimals=decimals))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _grid(table: Table, decimals: int, *, spread: bool) -> Grid:
    grid = Grid(title=escape(table.title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    grid.collapse_padding, grid.pad_edge = True, False
    for column in table.columns:
        grid.add_column(escape(column.short), justify="left" if column.kind == "text" else "right")
    for row in table.rows:
        grid.add_row(*(_cell(row, column, decimals, spread=spread) for column in table.columns))
    return grid


def _quoted(table: Table) -> Grid:
    """Return the published rows as a grid of their own, dim."""
    grid = Grid(title=ELSEWHERE, title_justify="left", box=box.SIMPLE_HEAD, style="dim")
    grid.collapse_padding, grid.pad_edge = True, False
    columns = table.quoted
    for head in ("Method", "Ckpt."):
        grid.add_column(head)
    for column in columns:
        grid.add_column(escape(column.short), justify="right")
    for head in ("Other attack", "Source"):
        grid.add_column(head, overflow="fold")
    for one in table.published:
        numbers = [show(one.cell(column.key), column, one.decimals).plain for column in columns]
        grid.add_row(*(Text(text) for text in (one.label, one.checkpoint, *numbers, one.other, one.source)))
    return grid


def _cell(row: Row, column: Column, decimals: int, *, spread: bool) -> Text:
    cell: Cell = row.cells[column.key]
    shown = show(cell, column, decimals, intervals=False)
    if not spread:
        shown = shown._replace(spread="")
    text = f"{shown.plain} {row.signs}" if column.key == "method" and row.signs else shown.plain
    return Text(text, style="bold" if cell.bold else "", no_wrap=column.kind not in {"text", "count"})
