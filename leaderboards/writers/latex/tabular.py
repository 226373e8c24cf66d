"""The tabular of one or several boards: upright with blocks of rows, or transposed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from advbench.leaderboards.selection import names_of
from advbench.leaderboards.table import BoardError, Column, Quoted, Row, Table
from advbench.leaderboards.writers.escaping import display, latex_escape
from advbench.leaderboards.writers.latex.cells import (
    CellSource,
    aligned,
    alignment,
    heading,
    name,
    quoted_cell,
    quoted_name,
    source,
    tex,
)
from advbench.leaderboards.writers.latex.layout import PER_CHECKPOINT, Layout

TABLE_RULES = {
    "booktabs": (r"\toprule", r"\midrule", r"\bottomrule"),
    "plain": (
        r"\hline\noalign{\smallskip}",
        r"\noalign{\smallskip}\hline\noalign{\smallskip}",
        r"\noalign{\smallskip}\hline",
    ),
}
FINAL = {"last", "final"}
"""What sources call the last checkpoint. A number whose checkpoint is not stated stands with best; a note says so."""


class Metric(NamedTuple):
    """One column of the logical table: the heading above its own, the checkpoint it is read at, and the column."""

    group: str
    checkpoint: str
    column: Column
    label: str


class MethodRows(NamedTuple):
    """The rows of one method by checkpoint."""

    best: Row
    last: Row | None

    def row(self, checkpoint: str) -> Row | None:
        """Return the row of a checkpoint."""
        return next((row for row in self.rows if row.checkpoint == checkpoint), None)

    @property
    def rows(self) -> list[Row]:
        """The rows there are, best first."""
        return [row for row in (self.best, self.last) if row]


class Entry(NamedTuple):
    """One line of the logical table: a name, and its value by column and checkpoint."""

    name: str
    value: Callable[[Metric], CellSource]

    def line(self, metrics: Sequence[Metric]) -> "Line":
        """Return the name and the values of these columns."""
        return self.name, [self.value(metric) for metric in metrics]


Line = tuple[str, list[CellSource]]
"""The first cell of a line, and the others."""


class Block(NamedTuple):
    """Lines under one heading, perhaps below the title of a group of blocks."""

    heading: str
    lines: list[Line]
    group: str = ""


def upright(
    boards: Sequence[Table], columns: Sequence[Column], layout: Layout, places: int, letters: Mapping[str, str]
) -> "Tabular":
    """Return the tabular with one line per method; `letters` mark the sources of published rows, see `cells.source`."""
    names = checkpoints(boards)
    metrics, header = _metrics(columns, names, layout)
    stacked = layout.blocks == "rows"
    blocks = []
    for board in boards:
        group, title = _titles(board, boards, layout)
        for checkpoint in names if stacked else names[:1]:
            moved = [metric._replace(checkpoint=checkpoint) for metric in metrics] if stacked else metrics
            about = f"{checkpoint.capitalize()} checkpoint" if stacked else ""
            reference = baseline(board, layout)
            for family, some in _families(board, layout):
                entries = [_measured(variant, layout, places, moved, reference) for variant in some]
                lines = [entry.line(moved) for entry in entries if entry]
                if family:
                    blocks.append(Block(latex_escape(family.capitalize()), lines, about or group))
                else:
                    blocks.append(Block(_joined(title, about), lines, group))
        for part in board.beside:
            quoted = [_published(one, letters[source(one)], layout, everywhere=stacked) for one in part.rows]
            lines = [entry.line(metrics) for entry in quoted]
            blocks.append(Block(_joined(title, part.heading), lines, group))
    return Tabular("l" + alignment([metric.column for metric in metrics]), header, blocks, layout)


def _families(board: Table, layout: Layout) -> list[tuple[str, list[MethodRows]]]:
    """Return the methods of a board by family, families in the order of their first method; else all under ""."""
    if layout.group_by != "family":
        return [("", variants(board))]
    found: dict[str, list[MethodRows]] = {}
    for variant in variants(board):
        found.setdefault(variant.best.identity.family, []).append(variant)
    return list(found.items())


def baseline(board: Table, layout: Layout) -> MethodRows | None:
    """Return the method that the others are compared with; None if a layout names none.

    Raises:
        BoardError: if the board has no such method.
    """
    if layout.baseline is None:
        return None
    for variant in variants(board):
        if layout.baseline.casefold() in names_of(variant.best.identity, variant.best.label):
            return variant
    raise BoardError(f"no method {layout.baseline!r} on {board.protocol} to compare the others with")


def transposed(
    board: Table, columns: Sequence[Column], layout: Layout, places: int, letters: Mapping[str, str]
) -> "Tabular":
    """Return the tabular of one board with one column per method, those beside the board at the end."""
    names = checkpoints([board])
    every = [Metric("", one, column, "") for one in names for column in columns]
    reference = baseline(board, layout)
    measured = [entry for variant in variants(board) if (entry := _measured(variant, layout, places, every, reference))]
    parts = board.beside
    quoted = [_published(one, letters[source(one)], layout, everywhere=False) for part in parts for one in part.rows]
    header = _line(["", *(entry.name for entry in (*measured, *quoted))])
    if quoted:
        above, spans, first = [""] * (len(measured) + 1), [], len(measured) + 2
        for part in parts:
            above.append(rf"\multicolumn{{{len(part.rows)}}}{{c}}{{{latex_escape(part.heading)}}}")
            spans.append((first, first + len(part.rows) - 1))
            first += len(part.rows)
        header = f"{_line(above)}\n{_rule(layout, spans)}\n{header}"
    moving = [column for column in columns if column.key in PER_CHECKPOINT]
    fixed = [column for column in columns if column.key not in PER_CHECKPOINT]
    blocks = []
    for about, checkpoint, some in (
        *((f"{one.capitalize()} checkpoint", one, moving) for one in names),
        ("", "", fixed),
    ):
        metrics = [Metric("", checkpoint or names[0], column, "") for column in some]
        lines = [(heading(one.column), [entry.value(one) for entry in (*measured, *quoted)]) for one in metrics]
        if lines:
            blocks.append(Block(about, lines))
    letters_of = "c" * len(measured) + (rf"@{{\hskip 1.5em}}{'c' * len(quoted)}" if quoted else "")
    return Tabular(f"l{letters_of}", header, blocks, layout)


def checkpoints(boards: Sequence[Table]) -> list[str]:
    """Return which checkpoints any row is of, best first."""
    there = {row.checkpoint for board in boards for row in board.rows}
    return [name for name in ("best", "last") if name in there]


def variants(table: Table) -> list[MethodRows]:
    """Return the rows of a board by method, in its order."""
    found: dict[str, dict[str, Row]] = {}
    for row in table.rows:
        found.setdefault(row.key, {})[row.checkpoint] = row
    return [
        MethodRows(rows.get("best", next(iter(rows.values()))), rows.get("last") if "best" in rows else None)
        for rows in found.values()
    ]


def _metrics(columns: Sequence[Column], names: Sequence[str], layout: Layout) -> tuple[list[Metric], str]:
    """Return the columns of an upright table, and its header."""
    if layout.blocks == "rows":
        metrics = [Metric("", "best", column, heading(column)) for column in columns]
        return metrics, _line(["Method", *(metric.label for metric in metrics)])
    moving = [column for column in columns if column.key in PER_CHECKPOINT]
    fixed = [column for column in columns if column.key not in PER_CHECKPOINT]
    if layout.blocks == "columns":
        metrics = [Metric(one.capitalize(), one, column, heading(column)) for one in names for column in moving]
    else:
        gaps = {column.key.removeprefix("gap_"): column for column in fixed if column.key.startswith("gap_")}
        metrics = []
        for column in moving:
            above = heading(column)
            metrics += [Metric(above, one, column, one.capitalize()) for one in names]
            if len(names) == 2 and column.key in gaps:
                metrics.append(Metric(above, "best", gaps[column.key], "Diff."))
        fixed = [column for column in fixed if column not in gaps.values() or len(names) < 2]
    metrics += [Metric("", names[0], column, heading(column)) for column in fixed]
    return metrics, _grouped_header(metrics, layout)


def _titles(board: Table, boards: Sequence[Table], layout: Layout) -> tuple[str, str]:
    """Return the group's title and the board's own: as much of data, network, threat, protocol as tells them apart."""
    if len(boards) == 1:
        return "", ""
    parts = {"dataset": display(board.dataset), "network": display(board.network)}
    group = parts.pop(layout.group_by) if layout.group_by else ""
    alike = [one for one in boards if (one.dataset, one.network) == (board.dataset, board.network)]
    several = {one.threat for one in boards}
    own = list(parts.values())
    if len(several) > 1:
        own.append(board.threat)
    if len({one.threat for one in alike}) < len(alike):
        own.append(board.protocol)
    return latex_escape(group), latex_escape(", ".join(own))


def _joined(title: str, about: str) -> str:
    """Return the heading of a block: whose board, which checkpoint."""
    if title and about:
        return f"{title}, {about[:1].lower()}{about[1:]}"
    return title or about


def _measured(
    variant: MethodRows, layout: Layout, places: int, metrics: Sequence[Metric], reference: MethodRows | None
) -> Entry | None:
    """Return the line of a method; None where it has no row at any of the checkpoints."""
    rows = [row for metric in metrics if (row := variant.row(metric.checkpoint))]

    def value(metric: Metric) -> CellSource:
        row, other = variant.row(metric.checkpoint), None
        if reference and reference.best.key != variant.best.key and metric.column.kind == "accuracy":
            other = reference.row(metric.checkpoint)
        mean = None if other is None else other.cells[metric.column.key].mean
        return CellSource("") if row is None else tex(row.cells[metric.column.key], metric.column, layout, places, mean)

    return Entry(name(variant.best, rows, layout), value) if rows else None


def _published(one: Quoted, letter: str, layout: Layout, *, everywhere: bool) -> Entry:
    """Return the line of published numbers, at the checkpoint they are of unless the block is of no checkpoint."""
    here = "last" if one.checkpoint in FINAL else "best"

    def value(metric: Metric) -> CellSource:
        shown = everywhere or metric.checkpoint == here
        return quoted_cell(one, metric.column, layout) if shown else CellSource("")

    return Entry(quoted_name(one, letter, layout), value)


def _grouped_header(metrics: Sequence[Metric], layout: Layout) -> str:
    """Return two header lines: the groups over their columns, then the columns."""
    top, rules, position = [""], [], 2
    for group in dict.fromkeys(metric.group for metric in metrics):
        width = sum(metric.group == group for metric in metrics)
        if group:
            top.append(rf"\multicolumn{{{width}}}{{c}}{{{group}}}")
            rules.append((position, position + width - 1))
        else:
            top += [""] * width
        position += width
    return f"{_line(top)}\n{_rule(layout, rules)}\n{_line(['Method', *(metric.label for metric in metrics)])}"


def _rule(layout: Layout, spans: Sequence[tuple[int, int]]) -> str:
    if layout.style == "booktabs":
        return " ".join(rf"\cmidrule(lr){{{first}-{last}}}" for first, last in spans)
    return " ".join([*(rf"\cline{{{first}-{last}}}" for first, last in spans), r"\noalign{\smallskip}"])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


@dataclass(frozen=True)
class Tabular:
    """A table before it is cut to the height of pages: letters of its columns, header lines, blocks."""

    letters: str
    header: str
    blocks: Sequence[Block]
    layout: Layout

    def parts(self, lines: int) -> list[str]:
        """Return tabulars of at most so many lines below the header, with headings repeated where a block is cut."""
        parts: list[list[Block]] = [[]]
        left = lines
        for block in self.aligned:
            rest = block.lines
            while rest:
                above = bool(block.heading) + bool(block.group)
                if left < above + min(3, len(rest)) and parts[-1]:  # no heading stands alone at the foot of a page
                    parts.append([])
                    left = lines
                fit = max(1, left - above)
                parts[-1].append(block._replace(lines=rest[:fit]))
                left, rest = left - above - len(rest[:fit]), rest[fit:]
        return [self._source(blocks) for blocks in parts]

    @cached_property
    def aligned(self) -> list[Block]:
        """The blocks with the numbers of each column below each other."""
        every = [cells for block in self.blocks for _, cells in block.lines]
        columns = [aligned(column) for column in zip(*every, strict=True)]
        texts = iter(zip(*columns, strict=True)) if columns else iter(() for _ in every)
        return [
            block._replace(lines=[(first, [CellSource(text) for text in next(texts)]) for first, _ in block.lines])
            for block in self.blocks
        ]

    def _source(self, blocks: Sequence[Block]) -> str:
        top, middle, bottom = TABLE_RULES[self.layout.style]
        span = 1 + len(blocks[0].lines[0][1])
        lines = [rf"\begin{{tabular}}{{@{{}}{self.letters}@{{}}}}", top, self.header]
        group = ""
        for block in blocks:
            lines.append(middle)
            if block.group and block.group != group:
                group = block.group
                lines += [rf"\multicolumn{{{span}}}{{@{{}}c@{{}}}}{{{group}}} \\", middle]
            if block.heading:
                lines.append(rf"\multicolumn{{{span}}}{{@{{}}l}}{{\textit{{{block.heading}}}}} \\")
            lines += [_line([first, *(cell.text for cell in cells)]) for first, cells in block.lines]
        lines += [bottom, r"\end{tabular}"]
        return "\n".join(lines)
