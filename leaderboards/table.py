"""One board as data: columns, rows, what was quoted and corrected, and what a reader must know.

Every writer shows `show(...)` of the same cells, so that no two formats can disagree on a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Unpack

from advbench.benchmark.records.corrections import Correction
from advbench.benchmark.records.rank_sets import Ranking
from advbench.leaderboards.cells import BoardError, Cell, Column, Shown, show
from advbench.leaderboards.selection import Filters, Names, Selection, hidden, named, ordered, traits_of
from advbench.leaderboards.table_rows import ELSEWHERE, EXTERNAL, MARKS, Beside, Note, Quoted, Row

__all__ = [
    "ELSEWHERE",
    "EXTERNAL",
    "MARKS",
    "Beside",
    "BoardError",
    "Cell",
    "Column",
    "Note",
    "Quoted",
    "Row",
    "Shown",
    "Table",
    "decimals",
    "select_all",
    "show",
]


def decimals(images: int) -> int:
    """Return how many decimals of a percentage are worth showing: two from 1,000 test images on, one below."""
    return 2 if images >= 1000 else 1


@dataclass(frozen=True, slots=True)
class Table:
    """A board: one protocol digest, its rows by mean AutoAttack, and what a reader must know.

    Attributes:
        protocol, digest, official: which protocol, and whether it is a published one.
        dataset, network, threat: for headings.
        images: test images, or 0 for an empty board.
        marks: what holds for the whole board, such as "unofficial protocol".
        ranking: what the tests say of its rows, by their keys; None for a board without rows.
        notes: sentences below the table, in order.
        history: corrections of its records, oldest first; the notes name the newest.
        published: quoted numbers that match dataset, network and threat; see `published_numbers.beside`.
        external: networks that others trained, attacked under the protocol; see `external_rows.beside`.
        part: heading of a part of a board; empty for the closed division, which is the board itself.
        parts: the other divisions of the board, each ordered and ranked within itself.
    """

    protocol: str
    digest: str
    official: bool
    dataset: str
    network: str
    threat: str
    images: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    marks: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    ranking: Ranking | None = field(default=None, repr=False)
    history: tuple[Correction, ...] = ()
    published: tuple[Quoted, ...] = ()
    external: tuple[Quoted, ...] = ()
    part: str = ""
    parts: tuple["Table", ...] = ()

    def _repr_html_(self) -> str:
        """Return the board with its notes as HTML: what a notebook shows. Every name is escaped."""
        from markdown_it import MarkdownIt  # noqa: PLC0415 (for notebooks only)

        # Found by name when it is asked for: writers know tables, and tables no writer.
        text: str = import_module("advbench.leaderboards.writers.markdown").write(self)
        return str(MarkdownIt("js-default").render(text))

    @property
    def title(self) -> str:
        """The protocol with the part and the marks of the board."""
        return f"{self.name} ({', '.join(self.marks)})" if self.marks else self.name

    @property
    def name(self) -> str:
        """The protocol, and the part if it is one."""
        return f"{self.protocol}, {self.part}" if self.part else self.protocol

    @property
    def whole(self) -> tuple["Table", ...]:
        """The board and its parts, as writers show them: without the board where only parts have rows."""
        return (self, *self.parts) if self.rows or self.beside or not self.parts else self.parts

    @property
    def decimals(self) -> int:
        """Decimals worth showing: two from 1,000 test images on, one below."""
        return decimals(self.images)

    @property
    def beside(self) -> tuple[Beside, ...]:
        """What stands beside the rows of the board, in order; parts without rows are left out."""
        parts = (Beside(EXTERNAL, "external", self.external), Beside(ELSEWHERE, "as published", self.published))
        return tuple(part for part in parts if part.rows)

    def column(self, key: str) -> Column:
        """Return a column by key.

        Raises:
            BoardError: if there is none; the message lists the keys.
        """
        for column in self.columns:
            if column.key == key:
                return column
        raise BoardError(f"no column {key!r}; columns: {', '.join(column.key for column in self.columns)}")

    def select(self, **filters: Unpack[Filters]) -> "Table":
        """Return the table with some columns and rows only, perhaps in another order; see `Filters`.

        Ranks stay those of the whole board; a note says how many rows are left out, and another how they are sorted.
        Notes about rows that are left out go with them. Best and last of a method stay together, at the place of best;
        what has no value to be sorted by comes last. A board of another data set or network has no row left.

        The same is selected from its parts; those without a row left are dropped.

        Raises:
            BoardError: if a column, method, family, checkpoint, day, division or sort key is not there.
        """
        return select_all([self], **filters)[0]

    def _select(self, filters: Filters) -> "Table":
        """Return the selection of this table alone."""
        wanted = Selection.read(filters)
        columns, sort = filters.get("columns"), filters.get("sort")
        rows: tuple[Row, ...] = ()
        quoted: tuple[Quoted, ...] = ()
        external: tuple[Quoted, ...] = ()
        if wanted.covers(self.dataset, self.network):
            rows = tuple(row for row in wanted.keep(self.rows, traits_of) if wanted.shows(row.checkpoint))
            quoted, external = wanted.quoted(self.published), wanted.quoted(self.external)
        sorted_by: tuple[Note, ...] = ()
        if sort is not None:
            rows, note = ordered(rows, sort, self.columns)
            sorted_by = (note,)
        keys = list(dict.fromkeys(row.key for row in rows))[: filters.get("top")]
        rows = tuple(row for row in rows if row.key in keys)
        kept = (note for note in self.notes if not note.rows or set(keys) & set(note.rows))
        beside = (("published", self.published, quoted), ("external", self.external, external))
        notes = (*kept, *hidden(self.rows, rows, beside), *sorted_by)
        chosen = self.columns if columns is None else tuple(self.column(key) for key in columns)
        return replace(self, columns=chosen, rows=rows, notes=notes, published=quoted, external=external)


def select_all(tables: Sequence[Table], **filters: Unpack[Filters]) -> list[Table]:
    """Select from several boards as `Table.select` does; of several, those without a row left are dropped.

    A method, family, column or sort key has to be on one of the boards or their parts only.

    Raises:
        BoardError: as `Table.select`, for what is on none of the boards.
    """
    every = [part for table in tables for part in (table, *table.parts)]
    narrowed = iter(_narrowed(every, filters) if len(every) > 1 else [filters])
    chosen = []
    for table in tables:
        own, *parts = [part._select(next(narrowed)) for part in (table, *table.parts)]  # noqa: SLF001 (of its class)
        chosen.append(replace(own, parts=tuple(part for part in parts if part.rows)))
    return chosen if len(tables) == 1 else [table for table in chosen if table.rows or table.parts]


def _narrowed(tables: Sequence[Table], filters: Filters) -> list[Filters]:
    """Return filters for each of several tables, without the names that only others know.

    Raises:
        BoardError: for a method, family, column or sort key that none of them knows.
    """
    traits = [[traits_of(row) for row in table.rows] for table in tables]
    keys = [{column.key for column in table.columns} for table in tables]
    every = set().union(*keys)
    methods = _known(
        "method", filters.get("methods"), [{name for row in rows for name in row.names} for rows in traits]
    )
    family = _known("family", filters.get("family"), [{row.family.casefold() for row in rows} for rows in traits])
    columns, sort = filters.get("columns"), (filters.get("sort") or "").partition(":")[0]
    found = []
    for place, known in enumerate(keys):
        each = filters.copy()
        if methods is not None:
            each["methods"] = methods[place]
        if family is not None:
            each["family"] = family[place]
        if columns is not None:
            each["columns"] = [key for key in columns if key in known or key not in every]
        if sort in every - known:
            each["sort"] = None
        found.append(each)
    return found


def _known(kind: str, wanted: Names, there: Sequence[set[str]]) -> list[list[str]] | None:
    """Return those of the wanted names that each board knows, in casefolded sets; None for no filter."""
    names = named(wanted)
    for low, name in (names or {}).items():
        if not any(low in known for known in there):
            near = get_close_matches(low, set().union(*there), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BoardError(f"no {kind} {name!r} on any of these boards{hint}")
    return None if names is None else [[name for low, name in names.items() if low in known] for known in there]
