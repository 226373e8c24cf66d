"""What the terminal shows: plain lines and tables."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1_000
"""Width where the output is not a terminal: nothing is folded, so that it can be searched."""


def console(*, stderr: bool = False) -> "Console":
    """Return a console that interprets nothing and folds lines in terminals only."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return Console(file=stream, width=None if terminal else WIDE, highlight=False, markup=False, emoji=False)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> None:
    """Print a table; the columns named in `right` are numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    flush = set(right)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in flush else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    screen = console()
    if screen.is_terminal:
        screen.print(table)
        return
    with screen.capture() as captured:
        screen.print(table)
    screen.file.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())
