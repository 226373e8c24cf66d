"""Which rows of a board are shown and in which order; ranks are never touched."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Self, TypedDict, TypeVar

from advbench.benchmark.records.schema import MethodIdentity
from advbench.leaderboards.cells import BoardError, Column
from advbench.leaderboards.table_rows import Note, Quoted, Row
from advbench.leaderboards.writers.escaping import display

Names = str | Iterable[str] | None
"""One name, several, or None for no filter."""
Day = str | date | None
DIVISIONS = ("closed", "tuned", "own-recipe", "open")
ATTRIBUTES = ("family", "year", "date")
"""What rows can be sorted by beside their columns."""
Item = TypeVar("Item")


class Filters(TypedDict, total=False):
    """Which part of boards is wanted: the arguments of `Table.select`, `select_all` and `load_frame`, and of commands.

    Attributes:
        columns: keys of the columns, in the order wanted.
        methods: by name, label or row label.
        checkpoints: among "best" and "last".
        dataset: by the names of protocols or of papers.
        network: the same.
        family: of methods, such as "regularised".
        since: rows whose newest record was written on this day (ISO text or `date`) or later.
        until: rows whose newest record was written on this day or earlier.
        division: "closed", "tuned", "own-recipe" or "open".
        sort: "KEY", "KEY:asc" or "KEY:desc", where the key is a column, "family", "year" (of the paper) or "date".
        top: only this many methods, the first ones of the order.
    """

    columns: Sequence[str] | None
    methods: Names
    checkpoints: Iterable[str] | None
    dataset: Names
    network: Names
    family: Names
    since: Day
    until: Day
    division: str | None
    sort: str | None
    top: int | None


class Traits(NamedTuple):
    """What filters look at, of a row of a board or of a record; `names` are casefolded, `label` is the row's."""

    names: frozenset[str]
    label: str
    family: str
    division: str
    date: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters of rows that were read and understood; None stands for everything. Names are casefolded."""

    methods: dict[str, str] | None
    checkpoints: frozenset[str] | None
    dataset: dict[str, str] | None
    network: dict[str, str] | None
    family: dict[str, str] | None
    since: str
    until: str
    division: str | None

    @classmethod
    def read(cls, filters: Filters) -> Self:
        """Read filters.

        Raises:
            BoardError: for a checkpoint, day or division that there is not.
        """
        points = filters.get("checkpoints")
        checkpoints = None if points is None else frozenset(points)
        if checkpoints is not None and not checkpoints <= {"best", "last"}:
            raise BoardError(f"checkpoints are best and last, got {', '.join(sorted(checkpoints))}")
        division = filters.get("division")
        if division is not None and division not in DIVISIONS:
            raise BoardError(f"no division {division!r}; there are: {', '.join(DIVISIONS)}")
        since, until = _day(filters.get("since"), "since"), _day(filters.get("until"), "until")
        if since and until and since > until:
            raise BoardError(f"no day is since {since} and until {until}")
        return cls(
            methods=named(filters.get("methods")),
            checkpoints=checkpoints,
            dataset=named(filters.get("dataset")),
            network=named(filters.get("network")),
            family=named(filters.get("family")),
            since=since,
            until=until,
            division=division,
        )

    def covers(self, dataset: str, network: str) -> bool:
        """Whether a board of this data set and network is wanted, by the names of protocols or of papers."""
        pairs = ((self.dataset, dataset), (self.network, network))
        return all(
            wanted is None or not wanted.keys().isdisjoint({name.casefold(), display(name).casefold()})
            for wanted, name in pairs
        )

    def keep(self, items: Sequence[Item], traits: Callable[[Item], Traits]) -> list[Item]:
        """Return the items that are wanted, whatever their checkpoint, data set and network.

        Raises:
            BoardError: if no item has a wanted method or family; the message lists what there is.
        """
        of = [traits(item) for item in items]
        _check("method", self.methods, {name for one in of for name in one.names}, {one.label for one in of})
        families = {one.family for one in of}
        _check("family", self.family, {name.casefold() for name in families}, families)
        return [item for item, one in zip(items, of, strict=True) if self._takes(one)]

    def quoted(self, published: Sequence[Quoted]) -> tuple[Quoted, ...]:
        """Return the quoted rows that are wanted; what the source does not say passes no filter."""
        if self.since or self.until or self.division is not None:
            return ()
        return tuple(
            row
            for row in published
            if (self.methods is None or {row.method.casefold(), row.label.casefold()} & self.methods.keys())
            and (self.family is None or row.family.casefold() in self.family)
            and self.shows(row.checkpoint)
        )

    def shows(self, checkpoint: str) -> bool:
        """Whether a checkpoint is wanted."""
        return self.checkpoints is None or checkpoint in self.checkpoints

    def _takes(self, traits: Traits) -> bool:
        return (
            (self.methods is None or bool(traits.names & self.methods.keys()))
            and (self.family is None or traits.family.casefold() in self.family)
            and (self.division is None or traits.division == self.division)
            and (not self.since or traits.date >= self.since)
            and (not self.until or "" < traits.date <= self.until)
        )


def _check(kind: str, wanted: dict[str, str] | None, there: set[str], shown: set[str]) -> None:
    for low, name in (wanted or {}).items():
        if low not in there:
            several = "methods" if kind == "method" else "families"
            raise BoardError(f"no {kind} {name!r} on this board; {several}: {', '.join(sorted(shown)) or 'none'}")


def names_of(method: MethodIdentity, row: str) -> frozenset[str]:
    """Return the casefolded names by which the rows of a method are known; a name also with hyphens."""
    names = (method.name, method.name.replace("_", "-"), method.label, row)
    return frozenset(name.casefold() for name in names)


def traits_of(row: Row) -> Traits:
    """Return what filters look at in a row of a board."""
    names = names_of(row.identity, row.label)
    return Traits(names, row.label, row.identity.family, row.division, row.date)


def hidden(
    before: Sequence[Row], after: Sequence[Row], beside: Iterable[tuple[str, Sequence[Quoted], Sequence[Quoted]]]
) -> tuple[Note, ...]:
    """Return the notes that say how many rows a selection leaves out; `beside` is (kind, before, after)."""
    notes = []
    if gone := len({row.key for row in before}) - len({row.key for row in after}):
        are = "methods of the board are" if gone > 1 else "method of the board is"
        text = f"{gone} {are} not shown; ranks are those of the whole board."
        notes.append(Note(text, text))
    for kind, there, kept in beside:
        if gone := len(there) - len(kept):
            notes.append(Note(f"{gone} {kind} row{'s are' if gone > 1 else ' is'} not shown."))
    return tuple(notes)


def ordered(rows: Sequence[Row], sort: str, columns: Sequence[Column]) -> tuple[tuple[Row, ...], Note]:
    """Return rows sorted by "KEY", "KEY:asc" or "KEY:desc", and the note that says so; see `Table.select`.

    Without a direction accuracies and points fall, as do dates and years; names, ranks and costs rise.

    Raises:
        BoardError: for a key or direction that there is not.
    """
    key, down = sorting(sort)
    column = next((column for column in columns if column.key == key), None)
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


def named(names: Names) -> dict[str, str] | None:
    """Return names by their casefolded form, in order; None for no filter."""
    if names is None:
        return None
    return {name.casefold(): name for name in ([names] if isinstance(names, str) else names)}


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
