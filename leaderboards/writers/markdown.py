"""Write a board as a GitHub-flavoured Markdown table with its notes."""

import re
from collections.abc import Sequence

from advbench.leaderboards.table import Beside, Column, Row, Table, show

SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$])")


def write(table: Table, *, decimals: int | None = None) -> str:
    """Return the board and its parts as Markdown: of each title, table, notes as a list.

    Args:
        table: the board, or a selection of it.
        decimals: places of accuracies; by default as many as the test set supports.
    """
    return "\n".join(_part(each, each.decimals if decimals is None else decimals) for each in table.whole)


def _part(table: Table, places: int) -> str:
    lines = [f"### {escape(table.title)}", ""]
    if table.rows:
        aligned = ["---" if column.kind == "text" else "---:" for column in table.columns]
        lines.append(_line([escape(column.heading) for column in table.columns]))
        lines.append(_line(aligned))
        lines += [_line([_cell(row, column, places) for column in table.columns]) for row in table.rows]
        lines.append("")
    for part in table.beside:
        lines += _quoted(part, part.columns(table.columns))
    lines += [f"- {escape(note.text)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _quoted(part: Beside, columns: Sequence[Column]) -> list[str]:
    """Return the rows beside a board as a table of their own."""
    other = ["Other attack (%)"] if any(row.other for row in part.rows) else []
    heads = ["Method", "Checkpoint", *(column.heading for column in columns), *other, "Source"]
    lines = [f"*{part.heading}*", "", _line([escape(head) for head in heads])]
    lines.append(_line(["---", "---", *("---:" for _ in columns), *("---" for _ in other), "---"]))
    for one in part.rows:
        numbers = [show(one.cell(column.key), column, one.decimals).plain for column in columns]
        texts = [one.label, one.checkpoint, *numbers, *(one.other for _ in other), one.source]
        lines.append(_line([escape(text) for text in texts]))
    return [*lines, ""]


def _cell(row: Row, column: Column, decimals: int) -> str:
    cell = row.cells[column.key]
    text = escape(show(cell, column, decimals).plain)
    if cell.bold:
        text = f"**{text}**"
    return f"{text} {row.signs}" if column.key == "method" and row.signs else text


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Keep Markdown and HTML in names from meaning anything; intervals keep their brackets."""
    escaped = SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return re.sub(r"\\\[([-\d., ]+)\\\]", r"[\1]", escaped)
