"""The files of a board to download: CSV, LaTeX in the layouts papers ask for most, Markdown, BibTeX."""

from dataclasses import replace
from typing import NamedTuple

from advbench.leaderboards import bibtex, csv, latex, markdown
from advbench.leaderboards.latex import VENUES, Layout
from advbench.leaderboards.table import BoardError, Table

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


def make(table: Table) -> tuple[list[Download], list[str]]:
    """Return the files of a board, and a sentence for each that could not be made.

    Rows measured here come alone, as in the committed tables; published numbers have a CSV of their own, in which every
    row says where it is from.
    """
    ours = replace(table, published=())
    found: list[Download] = []
    problems: list[str] = []
    if table.rows:
        found.append(Download("Data", "CSV", "csv", csv.write(ours)))
    if table.published:
        found.append(Download("Data", "CSV with published numbers", "published.csv", csv.write(table)))
    if not table.rows:
        return found, problems
    for ending, (name, layout) in LAYOUTS.items():
        try:
            found.append(Download("LaTeX", name, ending, latex.write(ours, layout)))
        except BoardError as error:
            problems.append(f"no LaTeX ({name}): {error}")
    found.append(Download("Text", "Markdown", "md", markdown.write(ours)))
    citations, uncited = bibtex.gather({row.identity.name: row.identity for row in table.rows}.values())
    if citations:
        found.append(Download("Citations", "BibTeX", "bib", citations))
    return found, [*uncited, *problems]
