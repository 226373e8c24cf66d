"""One board as data: typed cells that know their seeds, and the one way in which a cell becomes text.

Every writer shows `show(...)` of the same cells, so that no two formats can disagree on a number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from advbench.benchmark.records import MethodIdentity
from advbench.benchmark.statistics import Comparison, Interval, summarize

State = Literal["measured", "missing", "collapsed", "withheld", "unranked", "not applicable"]
Kind = Literal["text", "accuracy", "points", "rank", "amount", "count"]
MISSING = "–"
MARKS = {"masking": "†", "collapsed": "‡", "invalid": "§"}
"""Footnote signs after a method's name: what is wrong with the row, in every format."""
WORDS: dict[State, str] = {
    "missing": MISSING,
    "collapsed": "collapsed",
    "withheld": "withheld",
    "unranked": "unranked",
    "not applicable": "",
}
CANONICAL_DIGITS = 8
"""Numbers are rounded here once, so that rounding again for show gives the same text from every format."""


class BoardError(ValueError):
    """Records or options from which no honest board can be made; the message is one line."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: name in `--columns`, in CSV and in data frames.
        label, short: heading, and heading where width is scarce.
        kind: "accuracy" in percent, "points" a signed difference of percentages, "amount" three significant digits.
        unit: of the numbers, such as "%" or "GPU-h"; empty where each cell names its own.
    """

    key: str
    label: str
    short: str
    kind: Kind
    unit: str = ""

    @property
    def heading(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the values of its seeds, or why there are none.

    Attributes:
        values: one per measured seed, in the column's unit (accuracies in percent).
        expected: seeds the row has; fewer values than that is shown.
        interval: Wilson 95 % interval of a single seed's accuracy, in percent.
        text: content of a text column.
        unit: unit of this cell where the column has none.
        state, reason: "measured", or what is shown instead and why, in a sentence.
        bold, second: significantly best; next in rank.
    """

    values: tuple[float, ...] = ()
    expected: int = 0
    interval: Interval | None = None
    text: str = ""
    unit: str = ""
    state: State = "measured"
    reason: str = ""
    bold: bool = False
    second: bool = False

    @property
    def n(self) -> int:
        """Seeds measured."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean over the measured seeds; None without any."""
        return _canonical(summarize(self.values).mean) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None below two."""
        spread = summarize(self.values).sd if self.values else None
        return None if spread is None else _canonical(spread)


class Shown(NamedTuple):
    """A cell as text, in its parts: "47.31", sd "0.25", interval ("46.3", "48.3"), number measured "n=2", unit."""

    main: str
    spread: str = ""
    interval: tuple[str, str] | None = None
    measured: str = ""
    unit: str = ""

    @property
    def plain(self) -> str:
        """The parts joined in plain Unicode."""
        text = self.main
        if self.spread:
            text += f" ± {self.spread}"
        if self.interval:
            text += f" [{self.interval[0]}, {self.interval[1]}]"
        if self.unit:
            text += f" {self.unit}"
        if self.measured:
            text += f" ({self.measured})"
        return text


def show(cell: Cell, column: Column, decimals: int, *, intervals: bool = True) -> Shown:
    """Format one cell: the only place where a number of a board becomes text.

    Args:
        cell: what to show.
        column: the column it stands in.
        decimals: places of accuracies and points; standard deviations and intervals have as many.
        intervals: whether a single seed's Wilson interval is shown beside it.
    """
    if cell.state != "measured":
        return Shown(WORDS[cell.state])
    if column.kind == "text":
        return Shown(cell.text)
    mean = cell.mean
    if mean is None:
        raise BoardError(f"column {column.key}: a cell is called measured but has no value")
    count = f"n={cell.n}" if cell.n < cell.expected else ""
    if column.kind in {"rank", "count"}:
        return Shown(f"{mean:.0f}", measured=cell.text)
    if column.kind == "amount":
        return Shown(_significant(mean), measured=count, unit=cell.unit)
    spread = "" if cell.sd is None else _fixed(cell.sd, decimals)
    interval = None
    if intervals and cell.interval is not None:
        interval = (_fixed(cell.interval.low, decimals), _fixed(cell.interval.high, decimals))
    return Shown(_fixed(mean, decimals), spread, interval, count, cell.unit)


def _canonical(value: float) -> float:
    return round(value, CANONICAL_DIGITS) + 0.0


def _fixed(value: float, decimals: int) -> str:
    text = f"{_canonical(value):.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _significant(value: float) -> str:
    """Return three significant digits, all digits of a larger number, never an exponent."""
    if abs(value) >= 1000:
        return f"{value:.0f}"
    text = f"{float(f'{value:.3g}'):.6f}".rstrip("0").rstrip(".")
    return text or "0"


class Note(NamedTuple):
    """A sentence below a board.

    `brief` is what of it a paper's table says ("" where it says nothing), if the table shows the column `about`.
    """

    text: str
    brief: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One method variant at one checkpoint.

    Attributes:
        key: identity of the variant, the same for both checkpoints.
        checkpoint: "best" or "last".
        identity: the method as its records name it.
        cells: by column key.
        marks: keys of MARKS that apply.
        seeds, runs: of the records, in the same order.
        notes: short clauses about the row.
    """

    key: str
    checkpoint: str
    identity: MethodIdentity
    label: str
    cells: dict[str, Cell]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    marks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def signs(self) -> str:
        """The footnote signs of the row."""
        return "".join(MARKS[mark] for mark in self.marks)


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

    @property
    def title(self) -> str:
        """The protocol with the marks of the board."""
        return f"{self.protocol} ({', '.join(self.marks)})" if self.marks else self.protocol

    @property
    def decimals(self) -> int:
        """Decimals worth showing: two from 1,000 test images on, one below."""
        return 2 if self.images >= 1000 else 1

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
        methods: Iterable[str] | None = None,
        checkpoints: Iterable[str] | None = None,
    ) -> "Table":
        """Return the table with some columns, methods (by name, label or row label) and checkpoints only.

        Ranks stay those of the whole board, and a note says how many rows are left out.

        Raises:
            BoardError: if a column, method or checkpoint is not there.
        """
        chosen = self.columns if columns is None else tuple(self.column(key) for key in columns)
        rows = self.rows
        if methods is not None:
            rows = _pick_methods(rows, list(methods))
        if checkpoints is not None:
            wanted = set(checkpoints)
            if not wanted <= {"best", "last"}:
                raise BoardError(f"checkpoints are best and last, got {', '.join(sorted(wanted))}")
            rows = tuple(row for row in rows if row.checkpoint in wanted)
        notes = self.notes
        left_out = len({row.key for row in self.rows}) - len({row.key for row in rows})
        if left_out:
            text = f"{left_out} methods of the board are not shown; ranks are those of the whole board."
            notes = (*notes, Note(text, text))
        return replace(self, columns=chosen, rows=rows, notes=notes)


def _pick_methods(rows: tuple[Row, ...], wanted: list[str]) -> tuple[Row, ...]:
    """Return the rows of the wanted methods, refusing a name that no row has."""
    lowered = [name.casefold() for name in wanted]

    def names(row: Row) -> set[str]:
        return {row.identity.name.casefold(), row.identity.label.casefold(), row.label.casefold()}

    known = {row.label for row in rows}
    for name, low in zip(wanted, lowered, strict=True):
        if not any(low in names(row) for row in rows):
            raise BoardError(f"no method {name!r} on this board; methods: {', '.join(sorted(known))}")
    return tuple(row for row in rows if names(row) & set(lowered))
