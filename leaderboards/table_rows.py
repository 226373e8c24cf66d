"""The lines of a board: measured rows, numbers quoted from elsewhere, corrections, and the sentences below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from advbench.benchmark.records.schema import MethodIdentity
from advbench.leaderboards.cells import CAUTION, Cell, Column, rank_text

MARKS = {"masking": "†", "collapsed": "‡", "invalid": "§", "precision": "‖", "caution": CAUTION}
"""Footnote signs in every format: after a method's name what is wrong with the row, after a number what doubts it."""
ELSEWHERE = "As published, not measured here"
"""Heading of quoted numbers in every format."""


EXTERNAL = "Trained elsewhere, attacked here"
"""Heading of external rows in every format."""


class Note(NamedTuple):
    """A sentence below a board.

    `brief` is what of it a paper's table says ("" where it says nothing), if the table shows any column of `about`.
    `rows` are the keys of the rows it speaks of, with which it goes; none for the whole board.
    """

    text: str
    brief: str = ""
    about: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


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
        date: day (UTC, ISO) on which the newest of the records was written.
        division: of its records, see `Division`.
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
    date: str = ""
    division: str = "closed"

    @property
    def rank(self) -> str:
        """The rank set as text, "1–4"; empty where the row has none."""
        ends = self.cells["rank"].interval
        return "" if ends is None else rank_text(*ends)

    @property
    def signs(self) -> str:
        """The footnote signs after the method's name."""
        return "".join(MARKS[mark] for mark in self.marks if mark != "caution")


@dataclass(frozen=True, slots=True)
class Quoted:
    """Numbers that a paper or repository published, or of a network that others trained: beside ours, never ranked.

    Attributes:
        method: name of the method they are of.
        label: what the source calls the row.
        checkpoint: "best", "last", or in the source's words, "not stated" included.
        family: of the method, where a record of the board knows it; else empty.
        key: its citation key, where a record of the board can be cited; else empty.
        source: where the numbers stand, with its address.
        cells: by column key, for the columns that the source gives; see `cell`.
        other: what was measured with an attack that is no column here: "55.9 under PGD, steps not stated".
        decimals: as many as the source prints.
        origin: "as published", or "external" where the numbers were measured here.
    """

    method: str
    label: str
    checkpoint: str
    family: str
    key: str
    source: str
    cells: Mapping[str, Cell]
    other: str = ""
    decimals: int = 2
    origin: str = "as published"

    def cell(self, key: str) -> Cell:
        """Return a cell by column key, empty where the source gives none."""
        return self.cells.get(key, Cell(state="not applicable", reason="not given by the source"))


class Beside(NamedTuple):
    """Rows that stand beside a board under a heading of their own; `mark` follows each name where there is room."""

    heading: str
    mark: str
    rows: tuple[Quoted, ...]

    def columns(self, of: Sequence[Column]) -> tuple[Column, ...]:
        """Return the columns of a board for which a row has something to show."""
        given = {key for one in self.rows for key in one.cells} - {"method", "checkpoint"}
        return tuple(column for column in of if column.key in given)
