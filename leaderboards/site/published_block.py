"""Published numbers for a board's page: a block of their own, each with its source, never among the ranked rows."""

from typing import Any

from advbench.leaderboards.site.column_guide import marker
from advbench.leaderboards.site.file_names import slug
from advbench.leaderboards.table import Quoted, Table, show
from advbench.leaderboards.writers.escaping import split_address


def block(table: Table, pages: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the headings and rows of the published numbers beside a board, in the order of `Table.published`.

    Args:
        table: the board.
        pages: names of the methods that have a page to link.
    """
    columns = table.quoted
    return {
        "heads": [column.heading for column in columns],
        "others": any(one.other for one in table.published),
        "rows": [
            {
                "label": one.label,
                "page": f"../methods/{slug(one.method)}.html" if one.method in pages else "",
                "family": one.family,
                "marker": marker(one.family) if one.family else None,
                "text": f"{one.label} {one.method} {one.family} {one.source}".lower(),
                "checkpoint": one.checkpoint,
                "cells": [show(one.cell(column.key), column, one.decimals).plain for column in columns],
                "other": one.other,
                "source": _source(one),
            }
            for one in table.published
        ],
    }


def _source(one: Quoted) -> dict[str, str]:
    before, address, after = split_address(one.source)
    return {
        "before": before,
        "address": address,
        "shown": address.removeprefix("https://").removeprefix("http://"),
        "after": after,
    }
