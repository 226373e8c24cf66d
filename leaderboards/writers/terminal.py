"""Show a board in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from advbench.leaderboards.table import Beside, Cell, Column, Row, Table, show

COLUMNS = ("rank", "method", "checkpoint", "clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "seeds")
"""What fits a terminal; the files hold every column."""
PART = ("settings", "default", "gain")
"""What the tuned and own-recipe divisions show beside that."""
LEAST = ("method", "autoattack", "clean", "checkpoint", "rank")
"""What a narrow terminal keeps longest, the last named goes first; the method always stays."""
_NAME = 12
"""Characters of a name that stay on one line before columns are dropped."""


def render(table: Table, *, width: int, decimals: int | None = None) -> Group:
    """Return what `rich` prints: the columns that fit a terminal, short headings, then the notes.

    Where the width does not hold standard deviations they are left to the files, and after them whole columns, from
    the right; a note says so. No number is ever cut. A board that was selected to other columns is shown with those.
    """
    places = table.decimals if decimals is None else decimals
    keys = {column.key for column in table.columns}
    wanted = (*COLUMNS, *(key for key in PART if key in keys))
    shown = table.select(columns=wanted) if keys > set(wanted) else table
    below = [note.text for note in shown.notes]
    columns = list(shown.columns)
    grid = _grid(shown, columns, places, spread=True)
    if _width(grid, fold=False) > width:
        grid = _grid(shown, columns, places, spread=False)
        below.append("Standard deviations do not fit this width; the files hold them.")
    dropped: list[Column] = []
    for column in sorted(columns, key=lambda column: (_worth(column), -columns.index(column))):
        if _width(grid, fold=True) <= width or column.key == "method" or len(columns) == 1:
            break
        columns.remove(column)
        dropped.insert(0, column)
        grid = _grid(shown, columns, places, spread=False)
    if dropped:
        names = ", ".join(column.label for column in shown.columns if column in dropped)
        below.append(f"Columns that do not fit this width: {names}; the files hold them.")
    quoted = [
        _quoted(part, [column for column in part.columns(table.columns) if column not in dropped])
        for part in table.beside
    ]
    return Group(grid, *quoted, *(Text(text, style="dim") for text in below))


def _worth(column: Column) -> int:
    """Return how long a column stays where the width is short: those of `LEAST` longest."""
    return -LEAST.index(column.key) if column.key in LEAST else -len(LEAST)


def _width(grid: Grid, *, fold: bool) -> int:
    """Return how wide a grid is, with all names on one line or the long ones folded."""
    console = Console(width=10_000)
    width = Measurement.get(console, console.options, grid).maximum
    names = [max((len(str(cell)) for cell in column.cells), default=0) for column in grid.columns if not column.no_wrap]
    return width - sum(max(0, longest - _NAME) for longest in names if fold)


def write(table: Table, *, decimals: int | None = None, width: int = 120) -> str:
    """Return the board as plain text of a given width, without colours."""
    console = Console(width=width, no_color=True, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(render(table, width=width, decimals=decimals))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _grid(table: Table, columns: Sequence[Column], decimals: int, *, spread: bool) -> Grid:
    grid = Grid(title=escape(table.title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    grid.collapse_padding, grid.pad_edge = True, False
    for column in columns:
        words = column.kind == "text"
        grid.add_column(escape(column.short), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for row in table.rows:
        grid.add_row(*(_cell(row, column, decimals, spread=spread) for column in columns))
    return grid


def _quoted(part: Beside, columns: Sequence[Column]) -> Grid:
    """Return the rows beside a board as a grid of their own, dim."""
    grid = Grid(title=part.heading, title_justify="left", box=box.SIMPLE_HEAD, style="dim")
    grid.collapse_padding, grid.pad_edge = True, False
    for head in ("Method", "Ckpt."):
        grid.add_column(head)
    for column in columns:
        grid.add_column(escape(column.short), justify="right", no_wrap=True)
    other = ["Other attack"] if any(row.other for row in part.rows) else []
    for head in (*other, "Source"):
        grid.add_column(head, overflow="fold")
    for one in part.rows:
        numbers = [show(one.cell(column.key), column, one.decimals, intervals=False).plain for column in columns]
        texts = (one.label, one.checkpoint, *numbers, *(one.other for _ in other), one.source)
        grid.add_row(*map(Text, texts))
    return grid


def _cell(row: Row, column: Column, decimals: int, *, spread: bool) -> Text:
    cell: Cell = row.cells[column.key]
    shown = show(cell, column, decimals, intervals=False)
    if not spread:
        shown = shown._replace(spread="")
    text = f"{shown.plain} {row.signs}" if column.key == "method" and row.signs else shown.plain
    return Text(text, style="bold" if cell.bold else "", no_wrap=column.kind not in {"text", "count"})
