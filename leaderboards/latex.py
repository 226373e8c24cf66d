"""Write a board as a LaTeX table that goes into a paper unchanged: pdflatex, booktabs or plain rules."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from advbench.leaderboards.table import BoardError, Cell, Column, Row, Table, show
from advbench.leaderboards.texts import display, latex_escape

PER_CHECKPOINT = {"clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "nrr", "flags"}
"""Columns that differ between best and last; the others belong to the method."""
SINGLE = ("clean", "pgd20", "cw", "autoattack", "gap_autoattack")
DOUBLE = ("clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "nrr", "gap_autoattack")
RULES = {
    "booktabs": (r"\toprule", r"\midrule", r"\bottomrule"),
    "plain": (r"\hline", r"\hline", r"\hline"),
}
SIGNS = {"masking": r"\dag", "collapsed": r"\ddag", "invalid": r"\S"}


@dataclass(frozen=True, slots=True)
class Layout:
    r"""How a paper wants its table.

    Attributes:
        style: "booktabs" rules, or "plain" \hline for papers without the package.
        span: "single" column (`table`) or "double" (`table*`).
        blocks: best and last as blocks of "rows" or side by side as blocks of "columns".
        columns: keys of the columns; by default what fits the span, legibly.
        methods: only these methods.
        decimals: places of accuracies; by default as many as the test set supports.
        transpose: methods as columns.
        second: underline the rows that come next in rank.
        cite: citation keys after the methods' names.
        intervals: Wilson intervals in the cells of single seeds; otherwise the note gives their largest width.
        caption, label: of the float; a caption is LaTeX source, by default the protocol's name.
    """

    style: Literal["booktabs", "plain"] = "booktabs"
    span: Literal["single", "double"] = "single"
    blocks: Literal["rows", "columns"] = "rows"
    columns: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    decimals: int | None = None
    transpose: bool = False
    second: bool = False
    cite: bool = True
    intervals: bool = False
    caption: str | None = None
    label: str = "tab:advbench"


class Metric(NamedTuple):
    """One column of the logical table: the checkpoint it is read at, and its column. Group "" belongs to the method."""

    group: str
    checkpoint: str
    column: Column


class Variant(NamedTuple):
    """The rows of one method by checkpoint."""

    best: Row
    last: Row | None

    def row(self, checkpoint: str) -> Row | None:
        """Return the row of a checkpoint."""
        return next((row for row in (self.best, self.last) if row and row.checkpoint == checkpoint), None)


class Block(NamedTuple):
    """Lines under one heading."""

    heading: str
    lines: list[list[str]]


def write(tables: Table | Sequence[Table], layout: Layout | None = None) -> str:
    """Return a float with the board, or with several boards as groups of rows, each under its data set and network.

    The document needs booktabs (unless the style is plain) and graphicx; the table is scaled down only if it is wider
    than the column.

    Raises:
        BoardError: for a column or method that is not there, no row at all, or groups that are to be transposed.
    """
    layout = layout or Layout()
    boards = [tables] if isinstance(tables, Table) else list(tables)
    if not boards or not any(board.rows for board in boards):
        raise BoardError("no rows to make a LaTeX table of; train and evaluate first")
    if layout.transpose and len(boards) > 1:
        raise BoardError("only one board can be transposed; choose one with --protocol")
    beside = layout.blocks == "columns" and not layout.transpose
    keys = layout.columns or _default(boards, SINGLE if layout.span == "single" or beside else DOUBLE)
    boards = [board.select(methods=layout.methods) for board in boards]
    places = layout.decimals if layout.decimals is not None else min(board.decimals for board in boards)
    chosen = [boards[0].column(key) for key in keys if key not in {"method", "checkpoint"}]
    body = (
        _transposed(boards[0], chosen, layout, places) if layout.transpose else _upright(boards, chosen, layout, places)
    )
    return _float(body, boards, layout, {column.key for column in chosen})


def _default(boards: Sequence[Table], keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the default columns, or those of a board that was narrowed to others."""
    for board in boards:
        there = tuple(column.key for column in board.columns)
        if not set(keys) <= set(there):
            return there
    return keys


def _checkpoints(boards: Sequence[Table]) -> list[str]:
    """Return which checkpoints any row is of, best first."""
    there = {row.checkpoint for board in boards for row in board.rows}
    return [name for name in ("best", "last") if name in there]


def _variants(table: Table) -> list[Variant]:
    found: dict[str, dict[str, Row]] = {}
    for row in table.rows:
        found.setdefault(row.key, {})[row.checkpoint] = row
    return [
        Variant(rows.get("best", next(iter(rows.values()))), rows.get("last") if "best" in rows else None)
        for rows in found.values()
    ]


def _upright(boards: Sequence[Table], columns: Sequence[Column], layout: Layout, places: int) -> str:
    """Return the tabular with one line per method."""
    side_by_side = layout.blocks == "columns"
    names = _checkpoints(boards)
    if side_by_side:
        moving = [column for column in columns if column.key in PER_CHECKPOINT]
        fixed = [column for column in columns if column.key not in PER_CHECKPOINT]
        metrics = [Metric(name.capitalize(), name, column) for name in names for column in moving]
        metrics += [Metric("", names[0], column) for column in fixed]
        header = _grouped_header(metrics, layout)
    else:
        metrics = [Metric("", "best", column) for column in columns]
        header = _line(["Method", *(_heading(column) for column in columns)])
    blocks = []
    for board in boards:
        name = f"{display(board.dataset)}, {display(board.network)}" if len(boards) > 1 else ""
        if side_by_side:
            blocks.append(Block(latex_escape(name), _lines(board, metrics, layout, places)))
            continue
        for checkpoint in names:
            moved = [metric._replace(checkpoint=checkpoint) for metric in metrics]
            heading = f"{name}, {checkpoint} checkpoint" if name else f"{checkpoint.capitalize()} checkpoint"
            blocks.append(Block(latex_escape(heading), _lines(board, moved, layout, places)))
    return _tabular("l" + _alignment([metric.column for metric in metrics]), header, blocks, layout)


def _lines(board: Table, metrics: Sequence[Metric], layout: Layout, places: int) -> list[list[str]]:
    lines = []
    for variant in _variants(board):
        rows = [row for metric in metrics if (row := variant.row(metric.checkpoint))]
        if rows:
            cells = [_value(variant, metric, layout, places) for metric in metrics]
            lines.append([_name(variant.best, rows, layout), *cells])
    return lines


def _transposed(board: Table, columns: Sequence[Column], layout: Layout, places: int) -> str:
    """Return the tabular with one column per method."""
    variants = _variants(board)
    rows = {variant.best.key: [variant.best, *([variant.last] if variant.last else [])] for variant in variants}
    header = _line(["", *(_name(variant.best, rows[variant.best.key], layout) for variant in variants)])
    moving = [column for column in columns if column.key in PER_CHECKPOINT]
    fixed = [column for column in columns if column.key not in PER_CHECKPOINT]
    blocks = []
    names = _checkpoints([board])
    parts = [(f"{name.capitalize()} checkpoint", name, moving) for name in names]
    for heading, checkpoint, some in (*parts, ("", names[0], fixed)):
        metrics = [Metric("", checkpoint, column) for column in some]
        lines = [[_heading(one.column), *(_value(each, one, layout, places) for each in variants)] for one in metrics]
        if lines:
            blocks.append(Block(heading, lines))
    return _tabular("l" + "c" * len(variants), header, blocks, layout)


def _value(variant: Variant, metric: Metric, layout: Layout, places: int) -> str:
    row = variant.row(metric.checkpoint)
    if row is None:
        return ""
    return _tex(row.cells[metric.column.key], metric.column, layout, places)


def _tex(cell: Cell, column: Column, layout: Layout, places: int) -> str:
    """Set one cell: the mean in full size, its spread small."""
    shown = show(cell, column, places, intervals=layout.intervals)
    text = _number(shown.main) if cell.state == "measured" and column.kind != "text" else latex_escape(shown.main)
    text = _emphasis(cell, layout)(text)
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


def _emphasis(cell: Cell, layout: Layout) -> Callable[[str], str]:
    if cell.bold:
        return lambda text: rf"\textbf{{{text}}}"
    if layout.second and cell.second:
        return lambda text: rf"\underline{{{text}}}"
    return lambda text: text


def _number(text: str) -> str:
    """Set a minus sign as one."""
    return f"$-${text[1:]}" if text.startswith("-") else text


def _name(row: Row, rows: Iterable[Row], layout: Layout) -> str:
    """Return the method's name with its signs and citation; bold where any of the rows shown is."""
    signs = {mark for one in rows for mark in one.marks}
    marked = "".join(sign for mark, sign in SIGNS.items() if mark in signs)
    cells = [one.cells["method"] for one in rows]
    strongest = next((cell for cell in cells if cell.bold), next((cell for cell in cells if cell.second), cells[0]))
    text = _emphasis(strongest, layout)(latex_escape(row.label))
    if marked:
        text += rf"\textsuperscript{{{marked}}}"
    if layout.cite and row.identity.key:
        text += rf"~\cite{{{row.identity.key}}}"
    return text


def _heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit and column.kind == "amount" else ""
    return latex_escape(f"{column.short}{unit}")


def _grouped_header(metrics: Sequence[Metric], layout: Layout) -> str:
    """Return two header lines: Best and Last over their columns, then the columns."""
    top, rules, position = [""], [], 2
    for group in dict.fromkeys(metric.group for metric in metrics):
        width = sum(metric.group == group for metric in metrics)
        if group:
            top.append(rf"\multicolumn{{{width}}}{{c}}{{{group}}}")
            rules.append((position, position + width - 1))
        else:
            top += [""] * width
        position += width
    rule = r"\cmidrule(lr)" if layout.style == "booktabs" else r"\cline"
    under = " ".join(f"{rule}{{{first}-{last}}}" for first, last in rules)
    return f"{_line(top)}\n{under}\n{_line(['Method', *(_heading(metric.column) for metric in metrics)])}"


def _alignment(columns: Sequence[Column]) -> str:
    return "".join("l" if column.kind == "text" else "c" for column in columns)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tabular(alignment: str, header: str, blocks: Sequence[Block], layout: Layout) -> str:
    top, middle, bottom = RULES[layout.style]
    lines = [rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", top, header]
    for block in blocks:
        lines.append(middle)
        if block.heading:
            lines.append(rf"\multicolumn{{{len(alignment)}}}{{@{{}}l}}{{\textit{{{block.heading}}}}} \\")
        lines += [_line(cells) for cells in block.lines]
    lines += [bottom, r"\end{tabular}"]
    return "\n".join(lines)


def _float(body: str, boards: Sequence[Table], layout: Layout, keys: set[str]) -> str:
    """Wrap the tabular: caption above, scaled only if too wide, notes below."""
    name = "table*" if layout.span == "double" else "table"
    titles = ", ".join(board.title for board in boards)
    caption = layout.caption if layout.caption is not None else latex_escape(f"Accuracy in % under {titles}.")
    notes = dict.fromkeys(
        note.brief for board in boards for note in board.notes if note.brief and note.about in {"", *keys}
    )
    packages = "graphicx" if layout.style == "plain" else "booktabs,graphicx"
    size, gap = (r"\scriptsize", "3pt") if layout.span == "single" else (r"\footnotesize", "4pt")
    return "\n".join(
        [
            rf"% needs \usepackage{{{packages}}}",
            rf"\begin{{{name}}}[t]",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{{layout.label}}}",
            rf"{size}\setlength{{\tabcolsep}}{{{gap}}}%",
            r"\sbox0{%",
            body + "}%",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            rf"\par\smallskip\parbox{{\linewidth}}{{\tiny {latex_escape(' '.join(notes))}}}",
            rf"\end{{{name}}}",
            "",
        ]
    )
