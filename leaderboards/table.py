"""One board as data: columns, rows, what was quoted and corrected, and what a reader must know.

Every writer shows `show(...)` of the same cells, so that no two formats can disagree on a number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from advbench.benchmark.records.statistics import Comparison
from advbench.leaderboards.cells import BoardError, Cell, Column, Shown, show
from advbench.leaderboards.selection import Day, Names, Selection, hidden, listed, ordered
from advbench.leaderboards.table_rows import ELSEWHERE, MARKS, Change, Note, Quoted, Row

__all__ = [
    "ELSEWHERE",
    "MARKS",
    "BoardError",
    "Cell",
    "Change",
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
    """A board: one protocol digest, its rows in order of rank, and what a reader must know.

    Attributes:
        protocol, digest, official: which protocol, and whether it is a published one.
        dataset, network, threat: for headings.
        images: test images, or 0 for an empty board.
        marks: what holds for the whole board, such as "unofficial protocol".
        comparisons: every pair of ranked rows.
        notes: sentences below the table, in order.
        history: corrections of its records, oldest first; the notes name the newest.
        published: quoted numbers that match dataset, network and threat; see `published_numbers.beside`.
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
    comparisons: tuple[Comparison, ...] = field(default=(), repr=False)
    history: tuple[Change, ...] = ()
    published: tuple[Quoted, ...] = ()

    @property
    def title(self) -> str:
        """The protocol with the marks of the board."""
        return f"{self.protocol} ({', '.join(self.marks)})" if self.marks else self.protocol

    @property
    def decimals(self) -> int:
        """Decimals worth showing: two from 1,000 test images on, one below."""
        return decimals(self.images)

    @property
    def quoted(self) -> tuple[Column, ...]:
        """The columns of this table for which a published row has a number."""
        given = {key for one in self.published for key in one.cells} - {"method", "checkpoint"}
        return tuple(column for column in self.columns if column.key in given)

    def column(self, key: str) -> Column:
        """Return a column by key.

        Raises:
            BoardError: if there is none; the message lists the keys.
        """
        for column in self.columns:
            if column.key == key:
                return column
        raise BoardError(f"no column {key!r}; columns: {', '.join(column.key for column in self.columns)}")

    def select(
        self,
        *,
        columns: Sequence[str] | None = None,
        methods: Names = None,
        checkpoints: Iterable[str] | None = None,
        dataset: Names = None,
        network: Names = None,
        family: Names = None,
        since: Day = None,
        until: Day = None,
        division: str | None = None,
        sort: str | None = None,
    ) -> "Table":
        """Return the table with some columns and rows only, perhaps in another order.

        Ranks stay those of the whole board; a note says how many rows are left out, and another how they are sorted.
        Notes about rows that are left out go with them.

        Args:
            columns: keys of the columns, in the order wanted.
            methods: by name, label or row label.
            checkpoints: among "best" and "last".
            dataset: one or several; a board of another data set has no row left.
            network: the same for its network.
            family: of methods, such as "regularised".
            since: rows whose newest record was written on this day (ISO text or `date`) or later.
            until: rows whose newest record was written on this day or earlier.
            division: "closed" or "open".
            sort: key of a column, "family", "year" (of the paper) or "date", with ":asc" or ":desc"; best and last of a
                method stay together, at the place of best. What has no value comes last.

        Raises:
            BoardError: if a column, method, family, checkpoint, day, division or sort key is not there.
        """
        wanted = Selection.read(
            methods=methods,
            checkpoints=checkpoints,
            dataset=dataset,
            network=network,
            family=family,
            since=since,
            until=until,
            division=division,
        )
        chosen = self.columns if columns is None else tuple(self.column(key) for key in columns)
        here = wanted.covers(self.dataset, self.network)
        rows = wanted.rows(self.rows) if here else ()
        quoted = wanted.quoted(self.published) if here else ()
        keys = {row.key for row in rows}
        kept = (note for note in self.notes if not note.rows or keys & set(note.rows))
        notes = (*kept, *hidden(self.rows, rows, self.published, quoted))
        if sort is not None:
            rows, note = ordered(rows, sort, self.columns)
            notes = (*notes, note)
        return replace(self, columns=chosen, rows=rows, notes=notes, published=quoted)


def select_all(
    tables: Sequence[Table],
    *,
    methods: Names = None,
    family: Names = None,
    **others: Any,  # noqa: ANN401 (handed on)
) -> list[Table]:
    """Select from several boards as `Table.select` does; of several, those without a row left are dropped.

    A method or family has to be on one of the boards only.

    Args:
        tables: the boards.
        methods: as for `Table.select`.
        family: as for `Table.select`.
        others: the other arguments of `Table.select`.

    Raises:
        BoardError: as `Table.select`, for a method or family that is on none of the boards.
    """
    if len(tables) == 1:
        return [tables[0].select(methods=methods, family=family, **others)]
    wanted = {"methods": listed(methods), "family": listed(family)}
    here: list[dict[str, list[str]]] = [{} for _ in tables]
    for key, names in wanted.items():
        for name in names or ():
            there = [_has(table, key, name) for table in tables]
            if not any(there):
                raise BoardError(f"no {key.removesuffix('s')} {name!r} on any of these boards")
            for found, is_there in zip(here, there, strict=True):
                found.setdefault(key, []).extend([name] if is_there else [])
    kept = [(table, found) for table, found in zip(tables, here, strict=True) if all(found.values())]
    chosen = [table.select(methods=found.get("methods"), family=found.get("family"), **others) for table, found in kept]
    return [table for table in chosen if table.rows]


def _has(table: Table, key: str, name: str) -> bool:
    try:
        Selection.read(**{key: name}).rows(table.rows)
    except BoardError:
        return False
    return True
