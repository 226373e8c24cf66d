"""Cells, names and headings as LaTeX source."""

from collections.abc import Callable, Iterable, Sequence

from advbench.leaderboards.bibtex import citable
from advbench.leaderboards.table import Cell, Column, Quoted, Row, show
from advbench.leaderboards.writers.escaping import latex_escape
from advbench.leaderboards.writers.latex.layout import Layout

SIGNS = {"masking": r"\dag", "collapsed": r"\ddag", "invalid": r"\S"}


def tex(cell: Cell, column: Column, layout: Layout, places: int) -> str:
    """Set one cell: the mean in full size, its spread small."""
    shown = show(cell, column, places, intervals=layout.intervals)
    text = _number(shown.main) if cell.state == "measured" and column.kind != "text" else latex_escape(shown.main)
    text = _emphasis(cell, layout)(text)
    if shown.sign:
        text += rf"\textsuperscript{{{latex_escape(shown.sign)}}}"
    small = []
    if shown.spread:
        small.append(rf"$\pm$\,{shown.spread}")
    if shown.interval:
        small.append(f"[{', '.join(_number(bound) for bound in shown.interval)}]")
    if shown.unit:
        small.append(latex_escape(shown.unit))
    if shown.measured:
        small.append(f"({latex_escape(shown.measured)})")
    return rf"{text}\,{{\tiny {' '.join(small)}}}" if small else text


def name(row: Row, rows: Iterable[Row], layout: Layout) -> str:
    """Return the method's name with its signs and citation; bold where any of the rows shown is."""
    signs = {mark for one in rows for mark in one.marks}
    marked = "".join(sign for mark, sign in SIGNS.items() if mark in signs)
    cells = [one.cells["method"] for one in rows]
    strongest = next((cell for cell in cells if cell.bold), next((cell for cell in cells if cell.second), cells[0]))
    text = _emphasis(strongest, layout)(latex_escape(row.label))
    if marked:
        text += rf"\textsuperscript{{{marked}}}"
    return text + _citation(row.identity.key if citable(row.identity) else "", layout)


def quoted_name(one: Quoted, letter: str, layout: Layout) -> str:
    """Return the name of a published row with the letter of its source, and its method's citation."""
    return rf"{latex_escape(one.label)}\textsuperscript{{{letter}}}" + _citation(one.key, layout)


def quoted_cell(one: Quoted, column: Column, layout: Layout) -> str:
    """Set one published number with the decimals of its source; nothing where it gives none."""
    return tex(one.cell(column.key), column, layout, one.decimals)


def heading(column: Column) -> str:
    """Return a column's short heading, with the unit where that is not told below the table."""
    unit = f" ({column.unit})" if column.unit and column.kind == "amount" else ""
    return latex_escape(f"{column.short}{unit}")


def alignment(columns: Sequence[Column]) -> str:
    """Return the letters of the tabular for columns after the first."""
    return "".join("l" if column.kind == "text" else "c" for column in columns)


def source(one: Quoted) -> str:
    """Return the note of a published row: where it stands, which checkpoint it is of, what else was measured."""
    other = f"; {latex_escape(one.other)}" if one.other else ""
    return f"{address(one.source)}, checkpoint {latex_escape(one.checkpoint)}{other}"


def address(text: str) -> str:
    """Return a source that may break after the slashes, dots and underscores of its address."""
    escaped = latex_escape(text)
    for mark in ("/", ".", r"\_"):
        escaped = escaped.replace(mark, rf"{mark}\allowbreak{{}}")
    return escaped


def _citation(key: str, layout: Layout) -> str:
    return rf"~{layout.place.cite}{{{key}}}" if layout.cite and key else ""


def _emphasis(cell: Cell, layout: Layout) -> Callable[[str], str]:
    if cell.bold:
        return lambda text: rf"\textbf{{{text}}}"
    if layout.second and cell.second:
        return lambda text: rf"\underline{{{text}}}"
    return lambda text: text


def _number(text: str) -> str:
    """Set a minus sign as one."""
    return f"$-${text[1:]}" if text.startswith("-") else text
