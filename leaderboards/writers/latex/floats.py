"""The float around the tabular: caption, scaling, notes; and which boards and columns go in."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase

from advbench.leaderboards.table import BoardError, Column, Table, select_all
from advbench.leaderboards.writers.escaping import display, latex_escape
from advbench.leaderboards.writers.latex.cells import source
from advbench.leaderboards.writers.latex.layout import VENUES, Layout
from advbench.leaderboards.writers.latex.tabular import Tabular, transposed, upright

logger = logging.getLogger(__name__)
PAGE = 600.0
"""Points (1/72 inch) of a page's text that a float may fill: all venues have more than 8.8 inches."""
CAPTION, RULES = 48.0, 24.0
"""Points that a caption and a table's rules and header take."""
LEADING = {r"\footnotesize": 9.5, r"\scriptsize": 8.0, r"\tiny": 6.0}
"""Points from line to line, in a document of 10 points."""
GAPS = {r"\footnotesize": "4pt", r"\scriptsize": "3pt"}
"""Size of a table → half the space between its columns."""
LETTER = 2.6
"""Points that a letter of the notes takes on average."""
PART = ("settings", "default", "gain")
"""Columns of the tuned and own-recipe divisions that a paper's table shows."""
APART = "Each protocol is ranked by itself: bold and underlined rows are so within their own block of rows."


def write(tables: Table | Sequence[Table], layout: Layout | None = None) -> str:
    """Return a float with the board, or with several boards as groups of rows, each under its data set and network.

    Every other division of a board has a float of its own behind it, labelled with its number.
    The document needs booktabs (unless the style is plain) and graphicx; the table is scaled down only if it is wider
    than the column. Rows of several boards are never ranked together.

    Raises:
        BoardError: for a venue, column or method that is not there, no row at all, or several boards to transpose.
    """
    layout = layout or Layout()
    if layout.venue is not None and layout.venue not in VENUES:
        raise BoardError(f"no venue {layout.venue!r}; there are: {', '.join(VENUES)}")
    boards = [tables] if isinstance(tables, Table) else list(tables)
    if layout.methods is not None:
        boards = select_all(boards, methods=layout.methods)
    if parts := [part for board in boards for part in board.parts]:
        layout = replace(layout, methods=None)
        whole = [replace(board, parts=()) for board in boards if board.rows]
        labels = [f"{layout.label}-{number}" for number in range(1, len(parts) + 1)]
        floats = [write(whole, layout)] if whole else []
        floats += [write(part, replace(layout, label=label)) for part, label in zip(parts, labels, strict=True)]
        return "\n".join(floats)
    boards = _ordered([board for board in boards if board.rows], layout)
    if not boards:
        raise BoardError("no rows to make a LaTeX table of; train and evaluate first, or choose other rows")
    if len(boards) > 1 and (layout.transpose or layout.group_by == "family"):
        how = "transposed" if layout.transpose else "grouped by family"
        raise BoardError(f"only one board can be {how}; choose one with --protocol")
    places = layout.decimals if layout.decimals is not None else min(board.decimals for board in boards)
    keys = layout.columns or _default(boards, layout)
    chosen = [_shared(boards, key) for key in keys if key not in {"method", "checkpoint"}]
    boards = [_with_units(board, chosen) for board in boards]
    letters = _letters(boards)
    make = upright if not layout.transpose else lambda boards, *rest: transposed(boards[0], *rest)
    body = make(boards, chosen, layout, places, letters)
    return _floats(body, boards, layout, {column.key for column in chosen}, letters)


def _ordered(boards: Sequence[Table], layout: Layout) -> list[Table]:
    """Return boards by the names of what they are grouped by; as given without groups."""
    if layout.group_by not in {"dataset", "network"}:
        return list(boards)
    names = ("dataset", "network") if layout.group_by == "dataset" else ("network", "dataset")
    return sorted(boards, key=lambda board: [display(getattr(board, one)).casefold() for one in names])


def _default(boards: Sequence[Table], layout: Layout) -> tuple[str, ...]:
    """Return the default columns, or those of a board that was narrowed to others."""
    ranked = any(row.rank for board in boards for row in board.rows)
    keys = tuple(key for key in layout.keys if ranked or key != "rank")
    for board in boards:
        there = tuple(column.key for column in board.columns)
        if not set(keys) <= set(there):
            return there
    keys = (*keys, *(column.key for column in boards[0].columns if column.key in PART))
    if layout.blocks == "attacks" and not layout.transpose:
        gaps = [f"gap_{key}" for key in keys]
        return (*keys, *(column.key for column in boards[0].columns if column.key in gaps))
    return keys


def _shared(boards: Sequence[Table], key: str) -> Column:
    """Return the column all boards share: marked as not standard if it is on any, without a unit where they differ."""
    columns = [board.column(key) for board in boards]
    marked = next((column for column in columns if column.short.endswith("*")), columns[0])
    units = {column.unit for column in columns}
    return marked if len(units) == 1 else replace(marked, unit="")


def _with_units(board: Table, columns: Sequence[Column]) -> Table:
    """Return a board whose cells name their unit where the shared column names none."""
    due = {column.key: unit for column in columns if not column.unit and (unit := board.column(column.key).unit)}
    if not due:
        return board
    rows = [
        replace(row, cells={**row.cells, **{key: replace(row.cells[key], unit=unit) for key, unit in due.items()}})
        for row in board.rows
    ]
    return replace(board, rows=tuple(rows))


def _letters(boards: Sequence[Table]) -> dict[str, str]:
    """Return a letter for each note on rows beside the boards: a, b, … z, aa, bb."""
    notes = dict.fromkeys(source(one) for board in boards for part in board.beside for one in part.rows)
    return {text: ascii_lowercase[number % 26] * (1 + number // 26) for number, text in enumerate(notes)}


def _floats(body: Tabular, boards: Sequence[Table], layout: Layout, keys: set[str], letters: Mapping[str, str]) -> str:
    """Wrap the tabular: caption where the venue has it, scaled only if too wide, notes below.

    What is taller than a page becomes several floats under one number: LaTeX would set one, and lose its foot.
    """
    venue = layout.place
    name = "table*" if layout.span == "double" and venue.columns == 2 else "table"
    titles = ", ".join(board.title for board in boards)
    caption = layout.caption if layout.caption is not None else latex_escape(f"Accuracy in % under {titles}.")
    briefs = dict.fromkeys(
        note.brief
        for board in boards
        for note in board.notes
        if note.brief and (not note.about or keys & set(note.about))
    )
    sources = [f"{letter}: {text}." for text, letter in letters.items()]
    notes = [latex_escape(" ".join([*briefs, *([APART] if len(boards) > 1 else [])])), *sources]
    if layout.baseline is not None:
        notes.append(latex_escape(f"In parentheses: difference to {layout.baseline}."))
    packages = "graphicx" if layout.style == "plain" else "booktabs,graphicx"
    width = f", for {venue.name}: {venue.page if layout.wide else venue.column:.2f} in" if venue.name else ""
    across = 72 * (venue.page if layout.wide else venue.column) if venue.name else 495 if layout.wide else 234
    foot = LEADING[r"\tiny"] * (1 + len(" ".join(notes)) * LETTER // across)
    cut = {size: body.parts(max(10, int((PAGE - CAPTION - RULES - foot) / LEADING[size]))) for size in GAPS}
    size = r"\footnotesize" if layout.wide and len(cut[r"\footnotesize"]) == 1 else r"\scriptsize"
    parts = cut[size]
    if len(parts) > 1:
        logger.warning("the table is taller than a page: it was set as %d floats; --top N shortens it", len(parts))
    found = [rf"% needs \usepackage{{{packages}}}{width}"]
    for number, part in enumerate(parts, 1):
        again = r"\addtocounter{table}{-1}" if number > 1 else ""
        label = rf"\label{{{layout.label}}}" if number == 1 else r"% the same table goes on"
        titled = [rf"\caption{{{caption}{' (continued)' if number > 1 else ''}}}", label]
        told = " ".join(notes) if number == len(parts) else "Continued on a later page."
        found += [
            rf"\begin{{{name}}}[t]{again}",
            r"\centering",
            *([*titled, r"\par\smallskip"] if venue.caption == "above" else []),
            rf"{{{size}\setlength{{\tabcolsep}}{{{GAPS[size]}}}%",
            r"\sbox0{%",
            part + "}%",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            rf"\par\smallskip\parbox{{\linewidth}}{{\tiny\raggedright {told}}}\par}}",
            *([] if venue.caption == "above" else titled),
            rf"\end{{{name}}}",
        ]
    return "\n".join([*found, ""])
