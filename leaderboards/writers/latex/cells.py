"""Cells, names and headings as LaTeX source."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from advbench.leaderboards.bibtex import citable
from advbench.leaderboards.table import Cell, Column, Quoted, Row, show
from advbench.leaderboards.writers.escaping import latex_escape
from advbench.leaderboards.writers.latex.layout import Layout

SIGNS = {"masking": r"\dag", "collapsed": r"\ddag", "invalid": r"\S", "precision": r"$\|$"}


class CellSource(NamedTuple):
    """A cell as LaTeX source: text, what stands small behind it, the number in it ("" for words and sets), its sign."""

    text: str
    tail: str = ""
    number: str = ""
    sign: str = ""


def tex(cell: Cell, column: Column, layout: Layout, places: int, baseline: float | None = None) -> CellSource:
    """Set one cell: the mean in full size, its spread and its difference to a baseline small."""
    shown = show(cell, column, places, intervals=layout.intervals)
    number = shown.main if cell.state == "measured" and column.kind not in {"text", "rank"} else ""
    text = _emphasis(cell, layout)(_number(number) if number else latex_escape(shown.main))
    sign = rf"\rlap{{\smash{{\textsuperscript{{{latex_escape(shown.sign)}}}}}}}" if shown.sign else ""
    small = []
    if baseline is not None and cell.mean is not None:
        small.append(f"({_number(f'{round(cell.mean - baseline, places) + 0.0:+.{places}f}')})")
    if shown.spread:
        small.append(rf"$\pm$\,{shown.spread}")
    if shown.interval:
        small.append(f"[{', '.join(_number(bound) for bound in shown.interval)}]")
    if shown.unit:
        small.append(latex_escape(shown.unit))
    if shown.measured:
        small.append(f"({latex_escape(shown.measured)})")
    return CellSource(text, rf"\,{{\tiny {' '.join(small)}}}" if small else "", number, sign)


def aligned(cells: Sequence[CellSource]) -> list[str]:
    """Return the cells of a column with their decimal points below each other, whatever columns are centred.

    Digits, signs and spreads that other cells of the column have and one lacks are set as phantoms.
    """
    parts = [cell.number.lstrip("+-").partition(".") for cell in cells]
    whole = max((len(integer) for integer, _, _ in parts), default=0)
    places = max((len(fraction) for _, _, fraction in parts), default=0)
    minus = any(cell.number.startswith("-") for cell in cells)
    longest = max((cell.tail for cell in cells), key=len, default="")
    found = []
    for cell, (integer, point, fraction) in zip(cells, parts, strict=True):
        if not cell.number:
            found.append(cell.text + cell.tail + cell.sign)
            continue
        before = "$-$" * (minus and not cell.number.startswith("-")) + "0" * (whole - len(integer))
        after = "." * (not point and places > 0) + "0" * (places - len(fraction))
        lacking = len(cell.tail) < len(longest)
        tail = (rf"\rlap{{{cell.tail}}}" if lacking and cell.tail else cell.tail) + _phantom(longest if lacking else "")
        found.append(_phantom(before) + cell.text + _phantom(after) + tail + cell.sign)
    return found


def _phantom(text: str) -> str:
    return rf"\phantom{{{text}}}" if text else ""


def name(row: Row, rows: Iterable[Row], layout: Layout) -> str:
    """Return the method's name with its signs and citation; bold where any of the rows shown is."""
    signs = {mark for one in rows for mark in one.marks}
    marked = "".join(sign for mark, sign in SIGNS.items() if mark in signs)
    cells = [one.cells["method"] for one in rows]
    strongest = next((cell for cell in cells if cell.bold), next((cell for cell in cells if cell.second), cells[0]))
    text = _emphasis(strongest, layout)(latex_escape(row.label))
    if marked:
        text += rf"\smash{{\textsuperscript{{{marked}}}}}"
    return text + _citation(row.identity.key if citable(row.identity) else "", layout)


def quoted_name(one: Quoted, letter: str, layout: Layout) -> str:
    """Return the name of a published row with the letter of its source, and its method's citation."""
    return rf"{latex_escape(one.label)}\textsuperscript{{{letter}}}" + _citation(one.key, layout)


def quoted_cell(one: Quoted, column: Column, layout: Layout) -> CellSource:
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
    """Set signs as such."""
    return f"${text[0]}${text[1:]}" if text.startswith(("-", "+")) else text
