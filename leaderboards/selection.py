"""Which rows of a board are shown and in which order; ranks are never touched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Self

from advbench.leaderboards.cells import BoardError, Column
from advbench.leaderboards.table_rows import Note, Quoted, Row
from advbench.leaderboards.writers.escaping import display

Names = str | Iterable[str] | None
"""One name, several, or None for no filter."""
Day = str | date | None
DIVISIONS = ("closed", "open")
ATTRIBUTES = ("family", "year", "date")
"""What rows can be sorted by beside their columns."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters that were read and understood; None stands for everything. Names are casefolded."""

    methods: dict[str, str] | None = None
    checkpoints: frozenset[str] | None = None
    dataset: frozenset[str] | None = None
    network: frozenset[str] | None = None
    family: dict[str, str] | None = None
    since: str = ""
    until: str = ""
    division: str | None = None

    @classmethod
    def read(
        cls,
        *,
        methods: Names = None,
        checkpoints: Iterable[str] | None = None,
        dataset: Names = None,
        network: Names = None,
        family: Names = None,
        since: Day = None,
        until: Day = None,
        division: str | None = None,
    ) -> Self:
        """Read filters as `Table.select` takes them.

        Raises:
            BoardError: for a checkpoint, day or division that there is not.
        """
        points = None if checkpoints is None else frozenset(checkpoints)
        if points is not None and not points <= {"best", "last"}:
            raise BoardError(f"checkpoints are best and last, got {', '.join(sorted(points))}")
        if division is not None and division not in DIVISIONS:
            raise BoardError(f"no division {division!r}; there are: {', '.join(DIVISIONS)}")
        first, last = _day(since, "since"), _day(until, "until")
        if first and last and first > last:
            raise BoardError(f"no day is since {first} and until {last}")
        return cls(
            methods=_named(methods),
            checkpoints=points,
            dataset=None if dataset is None else frozenset(_named(dataset) or ()),
            network=None if network is None else frozenset(_named(network) or ()),
            family=_named(family),
            since=first,
            until=last,
            division=division,
        )

    def covers(self, dataset: str, network: str) -> bool:
        """Whether a board of this data set and network is wanted, by the names of protocols or of papers."""
        pairs = ((self.dataset, dataset), (self.network, network))
        return all(
            wanted is None or bool(wanted & {name.casefold(), display(name).casefold()}) for wanted, name in pairs
        )

    def check(self, what: Literal["method", "family"], there: set[str], shown: Iterable[str]) -> None:
        """Refuse a method or family that is wanted and not among the casefolded names `there`.

        Raises:
            BoardError: listing what is `shown`.
        """
        wanted, plural = (self.methods, "methods") if what == "method" else (self.family, "families")
        for low, name in (wanted or {}).items():
            if low not in there:
                raise BoardError(f"no {what} {name!r} on this board; {plural}: {', '.join(sorted(shown)) or 'none'}")

    def rows(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        """Return the rows that are wanted.

        Raises:
            BoardError: if no row has a wanted method or family; the message lists what there is.
        """
        self.check("method", {name for row in rows for name in _names_of(row)}, {row.label for row in rows})
        families = {row.identity.family for row in rows}
        self.check("family", {name.casefold() for name in families}, families)
        return tuple(row for row in rows if self._takes(row))

    def quoted(self, published: Sequence[Quoted]) -> tuple[Quoted, ...]:
        """Return the quoted rows that are wanted; what the source does not say passes no filter."""
        if self.since or self.until or self.division is not None:
            return ()
        return tuple(
            one
            for one in published
            if (self.methods is None or {one.method.casefold(), one.label.casefold()} & set(self.methods))
            and (self.family is None or one.family.casefold() in self.family)
            and (self.checkpoints is None or one.checkpoint in self.checkpoints)
        )

    def _takes(self, row: Row) -> bool:
        return (
            (self.methods is None or bool(_names_of(row) & set(self.methods)))
            and (self.family is None or row.identity.family.casefold() in self.family)
            and (self.checkpoints is None or row.checkpoint in self.checkpoints)
            and (self.division is None or row.division == self.division)
            and (not self.since or row.date >= self.since)
            and (not self.until or "" < row.date <= self.until)
        )


def hidden(
    before: Sequence[Row], after: Sequence[Row], quoted: Sequence[Quoted], kept: Sequence[Quoted]
) -> tuple[Note, ...]:
    """Return the notes that say how many rows a selection leaves out."""
    notes = []
    if gone := len({row.key for row in before}) - len({row.key for row in after}):
        are = "methods of the board are" if gone > 1 else "method of the board is"
        text = f"{gone} {are} not shown; ranks are those of the whole board."
        notes.append(Note(text, text))
    if gone := len(quoted) - len(kept):
        notes.append(Note(f"{gone} published row{'s are' if gone > 1 else ' is'} not shown."))
    return tuple(notes)


def ordered(rows: Sequence[Row], sort: str, columns: Sequence[Column]) -> tuple[tuple[Row, ...], Note]:
    """Return rows sorted by "KEY", "KEY:asc" or "KEY:desc", and the note that says so; see `Table.select`.

    Without a direction accuracies and points fall, as do dates and years; names, ranks and costs rise.

    Raises:
        BoardError: for a key or direction that there is not.
    """
    key, down = sorting(sort)
    column = next((one for one in columns if one.key == key), None)
    if column is None and key not in ATTRIBUTES:
        keys = ", ".join([*ATTRIBUTES, *(one.key for one in columns)])
        raise BoardError(f"cannot sort by {key!r}; keys: {keys}")
    if down is None:
        down = key in {"year", "date"} or (column is not None and column.kind in {"accuracy", "points"})
    pairs: dict[str, list[Row]] = {}
    for row in rows:
        pairs.setdefault(row.key, []).append(row)
    valued = [(value, several) for several in pairs.values() if (value := _value(several[0], key, column)) is not None]
    empty = [several for several in pairs.values() if _value(several[0], key, column) is None]
    # Two kinds of keys never meet in one sort: a column holds numbers or text, and so does an attribute.
    valued.sort(key=lambda one: one[0], reverse=down)
    name = column.label if column is not None else {"year": "the paper's year", "date": "date of record"}.get(key, key)
    text = f"Sorted by {name}, {'falling' if down else 'rising'}; ranks are those of the whole board."
    together = [row for several in (*(pair for _, pair in valued), *empty) for row in several]
    return tuple(together), Note(text, text)


def sorting(sort: str) -> tuple[str, bool | None]:
    """Split "KEY:desc" into the key and whether values fall; None where the direction is not said.

    Raises:
        BoardError: for another direction.
    """
    key, colon, direction = sort.partition(":")
    if colon and direction not in {"asc", "desc"}:
        raise BoardError(f"sort by KEY, KEY:asc or KEY:desc, not {sort!r}")
    return key, direction == "desc" if colon else None


def _value(row: Row, key: str, column: Column | None) -> tuple[float, str] | None:
    """Return what a row is sorted by: a number or a text, paired so that either compares with its like."""
    if column is None:
        if key == "year":
            return float(row.identity.year), ""
        text = row.identity.family if key == "family" else row.date
        return (0.0, text.casefold()) if text else None
    cell = row.cells[key]
    if column.kind == "text":
        return 0.0, cell.text.casefold()
    return None if cell.mean is None else (cell.mean, "")


def listed(names: Names) -> list[str] | None:
    """Return names as a list, one name as a list of it; None for no filter."""
    if names is None:
        return None
    return [names] if isinstance(names, str) else list(names)


def _named(names: Names) -> dict[str, str] | None:
    """Return names by their casefolded form, in order."""
    if names is None:
        return None
    return {name.casefold(): name for name in listed(names) or ()}


def _names_of(row: Row) -> set[str]:
    name = row.identity.name.casefold()
    return {name, name.replace("_", "-"), row.identity.label.casefold(), row.label.casefold()}


def _day(value: Day, name: str) -> str:
    """Return a day as ISO text, "" for none.

    Raises:
        BoardError: if the text is no date.
    """
    if value is None:
        return ""
    try:
        return (value if isinstance(value, date) else date.fromisoformat(value)).isoformat()[:10]
    except ValueError:
        raise BoardError(f"{name}: {value!r} is no day; write it as 2026-12-31") from None
