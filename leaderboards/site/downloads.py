"""The files of a board to download: CSV, LaTeX in the layouts papers ask for most, Markdown, BibTeX."""

from typing import NamedTuple

from advbench.leaderboards import bibtex
from advbench.leaderboards.table import BoardError, Table
from advbench.leaderboards.writers import csv, latex, markdown
from advbench.leaderboards.writers.latex import VENUES, Layout

LAYOUTS: dict[str, tuple[str, Layout]] = {
    "tex": ("one column", Layout()),
    "wide.tex": ("two columns wide, best beside last", Layout(span="double", blocks="columns")),
    "attacks.tex": ("two columns wide, difference per attack", Layout(span="double", blocks="attacks")),
    **{f"{key}.tex": (f"{venue.name}, one column", Layout(venue=key)) for key, venue in VENUES.items()},
}
"""File ending → what the layout is for, and the layout."""


class Download(NamedTuple):
    """One file: the kind it is listed under, what it is within its kind, its ending and text."""

    kind: str
    name: str
    ending: str
    text: str


def make(ours: Table, both: Table) -> tuple[list[Download], list[str]]:
    """Return the files of a board, and a sentence for each that could not be made.

    Args:
        ours: the board of what was measured here, the same as in committed tables.
        both: the same with published numbers, which have a CSV of their own where every row says where it is from.
    """
    found: list[Download] = []
    problems: list[str] = []
    if ours.rows or ours.external:
        found.append(Download("Data", "CSV", "csv", csv.write(ours)))
    if both.published:
        found.append(Download("Data", "CSV with published numbers", "published.csv", csv.write(both)))
    if not ours.rows:
        return found, problems
    for ending, (name, layout) in LAYOUTS.items():
        try:
            found.append(Download("LaTeX", name, ending, latex.write(ours, layout)))
        except BoardError as error:
            problems.append(f"no LaTeX ({name}): {error}")
    found.append(Download("Text", "Markdown", "md", markdown.write(ours)))
    citations, uncited = bibtex.gather({row.identity.name: row.identity for row in ours.rows}.values())
    if citations:
        found.append(Download("Citations", "BibTeX", "bib", citations))
    return found, [*uncited, *problems]
