"""Typed cells that know their seeds, and the one way in which a cell becomes text.

Every writer shows `show(...)` of the same cells, so that no two formats can disagree on a number.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from advbench.benchmark.records.statistics import Interval, summarize

State = Literal["measured", "missing", "collapsed", "withheld", "unranked", "provisional", "no ranks", "not applicable"]
Kind = Literal["text", "accuracy", "points", "rank", "amount", "count"]
MISSING = "–"
WORDS: dict[State, str] = {
    "missing": MISSING,
    "collapsed": "collapsed",
    "withheld": "withheld",
    "unranked": "unranked",
    "provisional": "provisional",
    "no ranks": MISSING,
    "not applicable": "",
}
CAUTION, PARETO = "¶", "◇"
"""Signs after a number: a flag doubts it and leaves the rank; on the Pareto front of passes and AutoAttack."""
CANONICAL_DIGITS = 8
"""Numbers are rounded here once, so that rounding again for show gives the same text from every format."""


_summary = lru_cache(maxsize=1 << 16)(summarize)
"""Every writer asks for the mean and the spread of every cell: a site of 2,000 records 400,000 times."""


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
        values: one per measured seed, in the column's unit (accuracies in percent); of a rank set its lower end.
        expected: seeds the row has; fewer values than that is shown.
        interval: Wilson 95 % interval of a single seed's accuracy, in percent; of a rank both ends of its set.
        text: content of a text column.
        unit: unit of this cell where the column has none.
        sign: CAUTION or PARETO, or nothing.
        state: "measured", or what is shown instead.
        reason: why the state or the sign.
        bold, second: beaten by no row; beaten by the fewest of those that any row beats.
    """

    values: tuple[float, ...] = ()
    expected: int = 0
    interval: Interval | None = None
    text: str = ""
    unit: str = ""
    sign: str = ""
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
        return _canonical(_summary(self.values).mean) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None below two."""
        spread = _summary(self.values).sd if self.values else None
        return None if spread is None else _canonical(spread)


class Shown(NamedTuple):
    """A cell as text, in parts: "47.31", sd "0.25", interval ("46.3", "48.3"), number measured "n=2", unit, sign."""

    main: str
    spread: str = ""
    interval: tuple[str, str] | None = None
    measured: str = ""
    unit: str = ""
    sign: str = ""

    @property
    def plain(self) -> str:
        """The parts joined in plain Unicode."""
        text = self.main + self.sign
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
    if column.kind == "rank":
        return Shown(rank_text(*(cell.interval or (mean, mean))), sign=cell.sign)
    if column.kind == "count":
        return Shown(f"{mean:.0f}", measured=cell.text)
    count = f"n={cell.n}" if cell.n < cell.expected else ""
    if column.kind == "amount":
        return Shown(_significant(mean), measured=count, unit=cell.unit)
    spread = "" if cell.sd is None else _fixed(cell.sd, decimals)
    interval = None
    if intervals and cell.interval is not None:
        interval = (_fixed(cell.interval.low, decimals), _fixed(cell.interval.high, decimals))
    return Shown(_fixed(mean, decimals), spread, interval, count, cell.unit, cell.sign)


def rank_text(low: float, high: float) -> str:
    """Return a rank set as text: "3", or "1–4"."""
    return f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}"


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
