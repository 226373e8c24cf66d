"""The page of a board with the files to download, and where a row stands in few words."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Record
from advbench.leaderboards.site import downloads
from advbench.leaderboards.site.file_names import slug
from advbench.leaderboards.site.render import page
from advbench.leaderboards.table import Row, Table, show
from advbench.leaderboards.writers.escaping import display
from advbench.leaderboards.writers.html.column_guide import marker
from advbench.leaderboards.writers.html.view import Links, minus, view


@dataclass(frozen=True)
class Board:
    """A board on its way to pages.

    Attributes:
        table: the board with external rows and published numbers.
        measured: the same board without published numbers.
        protocol: whose board it is.
        records: behind it.
        slug: name of its page without ending.
        namesakes: how many other boards have the protocol's name.
        corrected: what was corrected, see `superseded.entries`.
    """

    table: Table
    measured: Table
    protocol: Protocol
    records: tuple[Record, ...]
    slug: str
    namesakes: int
    corrected: tuple[dict[str, Any], ...] = ()


def add(out: dict[str, bytes], shown: Board, links: Links) -> list[str]:
    """Add a board's page and downloads to the files of a site; return what its builder should know, in sentences."""
    files, warnings = downloads.make(shown.measured, shown.table)
    notices = [f"{warning[:1].upper()}{warning[1:]}." for warning in warnings]
    if shown.namesakes:
        boards = "other board on this site has" if shown.namesakes == 1 else "other boards on this site have"
        notices.insert(
            0,
            f"{shown.namesakes} {boards} this protocol's name and another digest. "
            "Their numbers cannot be compared with these.",
        )
    out.update({f"boards/{shown.slug}.{file.ending}": file.text.encode() for file in files})
    out[f"boards/{shown.slug}.html"] = page(
        "board.html",
        root="../",
        here="boards",
        board=view(shown.table, links) | {"notices": notices},
        parts=[view(part, links, suffix=f"-{place}") for place, part in enumerate(shown.table.parts, start=2)],
        downloads=[
            (kind, [(file.name, f"{shown.slug}.{file.ending}", len(file.text.encode())) for file in group])
            for kind, group in groupby(files, key=lambda file: file.kind)
        ],
        records=[run["file"] for run in links.runs.values()],
        dataset=_dataset(shown, files),
    )
    return warnings


def _dataset(shown: Board, files: Sequence[downloads.Download]) -> dict[str, Any] | None:
    """Return what search engines for data read of a board: schema.org's Dataset, with its tables as distributions."""
    if not shown.table.rows:
        return None
    table = shown.table
    media = {"csv": "text/csv", "md": "text/markdown", "bib": "application/x-bibtex"}
    tables = [file for file in files if file.ending in media]
    return {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": f"{table.protocol}: adversarial robustness of defenses",
        "description": shown.protocol.summary or f"{display(table.dataset)}, {display(table.network)}, {table.threat}.",
        "identifier": f"sha256:{table.digest}",
        "keywords": ["adversarial robustness", display(table.dataset), display(table.network), table.threat],
        "dateModified": max(row.date for row in table.rows),
        "variableMeasured": [column.heading for column in table.columns if column.kind == "accuracy"],
        "measurementTechnique": "AutoAttack, PGD and CW, outcomes image by image",
        "distribution": [
            {
                "@type": "DataDownload",
                "name": file.name,
                "encodingFormat": media[file.ending],
                "contentUrl": f"{shown.slug}.{file.ending}",
            }
            for file in tables
        ],
    }


def summarize_row(table: Table, row: Row) -> dict[str, Any]:
    """Return a row in few words: rank, name, clean and AutoAttack accuracy."""
    shown = {key: show(row.cells[key], table.column(key), table.decimals) for key in ("rank", "clean", "autoattack")}
    return {
        "label": row.label,
        "page": f"methods/{slug(row.identity.name)}.html",
        "marker": marker(row.identity.family),
        "signs": row.signs,
        "rank": shown["rank"].main,
        "why": row.cells["rank"].reason,
        "clean": minus(shown["clean"].plain),
        "robust": minus(shown["autoattack"].plain),
    }
