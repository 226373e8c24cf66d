"""What the terminal shows, plain lines and tables, and the result files that commands write beside it."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

WIDE = 1_000
"""Width where the output is not a terminal: nothing is folded, so that it can be searched."""
FORMATS = ("png", "pdf")
"""Of the figures that commands write beside their results."""


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


def file_name(text: str) -> str:
    """Return a text as a file name of 80 characters at most; of a longer one a digest stands for the end."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")
    return plain if len(plain) <= 80 else f"{plain[:71]}-{sha256(text.encode()).hexdigest()[:8]}"


def write_json(plain: object, path: Path, *, err: bool = False) -> None:
    """Write JSON data to a file, its folder made if need be, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(plain, indent=1) + "\n").encode())
    click.echo(f"wrote {path}", err=err)


def write_figure(figure: "Figure", stem: Path) -> None:
    """Write a figure in the usual formats, and say where."""
    from advbench.reports.drawing.style import save

    for path in save(figure, stem, FORMATS):
        click.echo(f"wrote {path}")


def write_result(plain: object, figure: "Figure", stem: Path) -> None:
    """Write a result as JSON data and as a figure."""
    write_json(plain, stem.with_name(f"{stem.name}.json"))
    write_figure(figure, stem)
