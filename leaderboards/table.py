"""One board as data: columns, rows, what was quoted and corrected, and what a reader must know.

Every writer shows `show(...)` of the same cells, so that no two formats can disagree on a number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from advbench.benchmark.statistics import Comparison
from advbench.leaderboards.cells import BoardError, Cell, Column, Shown, show
from advbench.leaderboards.rows import ELSEWHERE, MARKS, Change, Note, Quoted, Row
from advbench.leaderboards.selection import Day, Names, Selection, hidden, ordered

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
        notes = (*self.notes, *hidden(self.rows, rows, self.published, quoted))
        if sort is not None:
            rows, note = ordered(rows, sort, self.columns)
            notes = (*notes, note)
        return replace(self, columns=chosen, rows=rows, notes=notes, published=quoted)
