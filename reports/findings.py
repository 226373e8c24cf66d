"""Findings: what boards say about the claims of the papers that this benchmark began with. Torch-free.

`templates/findings.md.jinja` holds the prose, written by hand and without a figure; every number comes from records.
"""

from collections.abc import Sequence
from importlib import resources
from itertools import permutations
from typing import Literal, NamedTuple

import jinja2
import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from advbench.benchmark.records.rank_sets import POOLED_DF
from advbench.benchmark.records.schema import Record
from advbench.benchmark.records.statistics import Interval
from advbench.benchmark.records.variation import Floats
from advbench.leaderboards import board, published_numbers
from advbench.leaderboards.board import METRIC
from advbench.leaderboards.notes import POWER, detectable
from advbench.leaderboards.published_numbers import Published
from advbench.leaderboards.table import Row, show
from advbench.leaderboards.writers.escaping import display
from advbench.leaderboards.writers.markdown import escape
from advbench.reports.comparison import Test, contrast
from advbench.reports.row_outcomes import outcomes, ranked

FOUNDING = ("sglr", "dynat", "d2r", "act")
"""The methods whose claims are examined."""
SHOWN = ("clean", "autoattack", "gap_autoattack", "rank", "passes", "seeds")
"""Columns of the page's tables."""
RESIDUAL_18 = ("PreActResNet-18", "ResNet-18")
"""Networks whose published figures are compared with a board's order, the first that a source gives."""
Verdict = Literal["higher", "lower", "open", "untested", "missing"]
_EXACT, _DRAWS = 8, 20_000
"""Rows up to which every order is tried for a p-value, and orders drawn at random above."""


class Difference(NamedTuple):
    """A − B of one board in points, or the mean of A alone, as text with what the test allows to say.

    Attributes:
        a, b: labels of the rows, `b` empty where there is one row only.
        verdict: "open" where the 95 % interval holds 0, "untested" without an interval, "missing" without a row.
        networks: whether the test is of one network each, and says nothing of the methods.
        claimed: whether the board's own claims, all held at its level together, say the same as the verdict.
    """

    a: str
    b: str
    text: str = ""
    verdict: Verdict = "missing"
    networks: bool = False
    claimed: bool = False


class PublishedRow(NamedTuple):
    """A row of a board beside the figure that a source prints for the method, both AutoAttack in percent."""

    label: str
    checkpoint: str
    ours: float
    theirs: Published


class PublishedOrder(NamedTuple):
    """Spearman's correlation of a board's order with published figures.

    Attributes:
        rows: what is compared.
        rho: None below three rows or where either side orders nothing.
        p: two-sided, over orders of the rows.
    """

    rows: tuple[PublishedRow, ...]
    rho: float | None = None
    p: float | None = None


class BoardFindings:
    """One board, asked about its rows; a row is named "dynat", or "dynat inner=gt_ce" for a variant."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)
        self.protocol = records[0].protocol
        self.table = board.build(self.records)
        self.name = escape(self.table.protocol)
        self._rows = {_reference(row): row for row in reversed(self.table.rows) if row.checkpoint == "best"}
        self._runs = {record.run: record for record in records}

    def row(self, reference: str) -> Row | None:
        """Return a row of best."""
        return self._rows.get(reference)

    def label(self, reference: str) -> str:
        """Return the label of a row, or the method's name in capitals where there is none."""
        row = self.row(reference)
        return escape(row.label if row else reference.upper().replace("_", "-"))

    def cells(self, reference: str) -> list[str]:
        """Return the cells of a row for the columns of `SHOWN`."""
        row = self._rows[reference]
        shown = (show(row.cells[key], self.table.column(key), self.table.decimals).plain for key in SHOWN)
        return [escape(text).replace("-", "−") or "–" for text in shown]

    def variants(self, method: str) -> list[str]:
        """Return the references of the rows of a method with changed hyper-parameters, in the board's order."""
        return [name for name, row in reversed(self._rows.items()) if row.identity.name == method and " " in name]

    def compare(self, a: str, b: str, column: str = METRIC) -> Difference:
        """Return row A minus row B on best under an attack, by the test of the board."""
        pair = []
        for row in (self.row(a), self.row(b)):
            found = None if row is None else outcomes(self._of(row), "best", column)
            if row is None or found is None:
                return Difference(self.label(a), self.label(b))
            pair.append((row.label, found))
        others = ranked(self.table, self.records, "best", column)
        test = contrast(*pair, column=column, others=others, protocol=self.protocol).overall
        ranking, claimed = self.table.ranking, False
        if column == METRIC and ranking is not None and test.level == "methods":
            pairs = {(one.better, one.worse): one.holds for one in ranking.comparisons}
            first, second = self._rows[a].key, self._rows[b].key
            claimed = pairs.get((first, second), False) or pairs.get((second, first), False)
        return self._difference(a, b, test, claimed=claimed)

    def gap(self, a: str, b: str = "") -> Difference:
        """Return the robust-overfitting gap of row A, best − last under AutoAttack, or its gap minus that of row B."""
        parts = [part for part in map(self._gap, filter(None, (a, b))) if part is not None]
        if len(parts) < (2 if b else 1):
            return Difference(self.label(a), self.label(b) if b else "")
        return self._difference(a, b, mean_difference(parts, seeds=len(self.protocol.seeds)))

    def _gap(self, reference: str) -> Floats | None:
        """Return best − last under AutoAttack, (seeds, images) in {-1, 0, 1}."""
        row = self.row(reference)
        if row is None or row.cells["gap_autoattack"].state != "measured":
            return None
        best, last = (outcomes(self._of(row), checkpoint, METRIC) for checkpoint in ("best", "last"))
        return None if best is None or last is None or best.shape != last.shape else best.astype(float) - last

    def _of(self, row: Row) -> list[Record]:
        return [self._runs[run] for run in row.runs]

    def _difference(self, a: str, b: str, test: Test, *, claimed: bool = False) -> Difference:
        text = self.points(test.difference)
        verdict: Verdict = "untested"
        if test.interval is not None:
            low, high = test.interval
            text += f" [{self.points(low)}, {self.points(high)}]"
            verdict = "higher" if low > 0 else "lower" if high < 0 else "open"
        return Difference(
            self.label(a), self.label(b) if b else "", f"{text} points", verdict, test.level == "networks", claimed
        )

    def points(self, share: float) -> str:
        """Return a signed difference of accuracies in percentage points."""
        return f"{100 * share:+.{self.table.decimals}f}".replace("-", "−")

    @property
    def detectable(self) -> str:
        """The smallest difference that the board finds, in points; empty where it can find none."""
        found = detectable(self.table, self.protocol)
        return "" if found is None or not self.ranks else f"{100 * found:.1f}"

    @property
    def ranks(self) -> bool:
        """Whether the board has seeds enough to rank methods."""
        return self.table.ranking is not None and self.table.ranking.ranks_methods

    def no_dearer(self, reference: str) -> list[str]:
        """Return the labels of rows that take at most as many passes and reach at least the row's mean AutoAttack.

        Rows with frozen teachers are left out: the passes of their teachers are not counted.
        """
        own = self._rows[reference].cells
        return [
            escape(row.label)
            for name, row in reversed(self._rows.items())
            if name != reference
            and not any(record.training.teachers for record in self._of(row))
            and all(row.cells[key].mean is not None for key in ("passes", METRIC))
            and (row.cells["passes"].mean or 0) <= (own["passes"].mean or 0)
            and (row.cells[METRIC].mean or 0) >= (own[METRIC].mean or 0)
        ]

    @property
    def facts(self) -> list[str]:
        """Cells of the table of boards: data, network and its size, images and epochs, seeds, smallest difference."""
        one = self.records[0]
        seeds = sorted({len(row.seeds) for row in self._rows.values()})
        hours = sum(map(core_seconds, self.records)) / 3600
        return [
            escape(display(self.table.dataset)),
            escape(f"{display(self.table.network)}, {one.training.parameters_deployed / 1e6:.3g} M"),
            f"{one.data.train:,}",
            str(self.protocol.training.epochs),
            f"{self.table.images:,}",
            str(len(self._rows)),
            "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))),
            self.detectable or "none: too few seeds",
            f"{hours:.2g}",
        ]

    def agreement(self) -> PublishedOrder:
        """Correlate mean AutoAttack with what sources print for the same data, threat and an 18-layer network.

        Rows that may not be ranked are left out.
        """
        rows: list[PublishedRow] = []
        last = {row.key: row for row in self.table.rows if row.checkpoint == "last"}
        for method, row in reversed(self._rows.items()):
            figure = _anchor(method, self)
            if figure is None or row.cells["rank"].state in {"withheld", "unranked"}:
                continue
            of = last.get(row.key, row) if figure.checkpoint in {"last", "final"} else row
            if (ours := of.cells[METRIC].mean) is not None:
                rows.append(PublishedRow(escape(row.label), of.checkpoint, ours, figure))
        found = tuple(rows)
        return PublishedOrder(
            found, *spearman([one.ours for one in rows], [one.theirs.autoattack or 0 for one in rows])
        )


def _reference(row: Row) -> str:
    changed = (f"{key}={value}" for key, value in sorted(row.identity.changed.items()))
    return " ".join((row.identity.name, *changed))


def _anchor(method: str, of: BoardFindings) -> Published | None:
    figures = published_numbers.load(method)
    return next(
        (
            figure
            for network in RESIDUAL_18
            for figure in figures
            if figure.autoattack is not None
            and published_numbers.same_name(network, figure.network)
            and published_numbers.same_threat(figure, of.protocol)
        ),
        None,
    )


def core_seconds(record: Record) -> float:
    """Return the seconds of training and of the columns' attacks, times the threads they ran on."""
    spent = record.training.seconds * record.training.environment.threads
    different = {saved.sha256: saved.evaluation for saved in record.checkpoints.values()}  # one attack may serve both
    for evaluation in different.values():
        for name, column in evaluation.columns.items():
            if name != "pgd20":  # the first iterates of pgd100
                spent += column.seconds * (column.environment.threads if column.environment else 1)
    return spent


def mean_difference(parts: Sequence[Floats], *, seeds: int) -> Test:
    """Test the mean of values (seeds, images) against 0, or against that of a second row on the same images.

    Variances of seeds are the rows' own (Welch); images are crossed with seeds, as docs/statistics.md has it. With one
    seed each the test is of networks; with fewer than the protocol's `seeds` otherwise there is none.
    """
    signed = [sign * part for sign, part in zip((1, -1), parts, strict=False)]
    by_image = np.sum([part.mean(axis=0) for part in signed], axis=0)
    images, n = len(by_image), [len(part) for part in parts]
    difference = float(by_image.mean())
    together = max(float(by_image.var(ddof=1)), 1 / images)
    if set(n) == {1}:
        terms, df = [together / images], [images - 1]
    elif min(n) < max(seeds, 2):
        return Test("", difference)
    else:
        scatter = sum(float(part.var(axis=0, ddof=1).mean()) / len(part) for part in parts)
        terms = [float(part.mean(axis=1).var(ddof=1)) / len(part) for part in parts]
        terms.append(max(together - scatter, 0) / images)
        df = [*(count - 1 for count in n), images - 1]
    variance = max(sum(terms), together / images)
    freedom = variance**2 / max(sum(term**2 / d for term, d in zip(terms, df, strict=True)), 1e-300)
    half = float(student.isf(0.025, min(freedom, images - 1))) * variance**0.5
    p = 2 * float(student.sf(abs(difference) / variance**0.5, min(freedom, images - 1)))
    return Test(
        "networks" if set(n) == {1} else "methods", difference, Interval(difference - half, difference + half), p
    )


def spearman(a: Sequence[float], b: Sequence[float]) -> tuple[float | None, float | None]:
    """Return Spearman's correlation and its two-sided permutation p-value; None of fewer than three, or of one value.

    Every order is tried up to eight values; above that, orders are drawn from a fixed seed.
    """
    if len(a) < 3 or len(set(a)) < 2 or len(set(b)) < 2:
        return None, None
    x, y = (rank - rank.mean() for rank in (rankdata(a), rankdata(b)))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    if len(x) <= _EXACT:
        orders = np.array(list(permutations(x)))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(x, (_DRAWS, 1)), axis=1)
    rho = float(x @ y) / norm
    return rho, float((np.abs(orders @ y) / norm >= abs(rho) - 1e-9).mean())


def newest(records: Sequence[Record]) -> list[list[Record]]:
    """Return the closed division of each official protocol's newest version that has any, the front board first."""
    found: dict[str, list[Record]] = {}
    versions: dict[str, int] = {}
    closed = (record for record in records if record.official and record.division == "closed")
    for several in board.group(closed).values():
        name, _, version = several[0].protocol_name.rpartition("/")
        if int(version) >= versions.get(name, 0):
            versions[name], found[name] = int(version), several
    return list(found.values())


def write(records: Sequence[Record]) -> str:
    """Return the page as Markdown.

    Raises:
        BoardError: for records from which no honest board can be made.
    """
    engine = jinja2.Environment(  # noqa: S701 (Markdown, not HTML)
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = resources.files("advbench.reports") / "templates" / "findings.md.jinja"
    return engine.from_string(template.read_text(encoding="utf-8")).render(
        boards=[BoardFindings(several) for several in newest(records)],
        figures={name: published_numbers.load(name) for name in FOUNDING},
        power=f"{POWER:g}",
        pooled_df=POOLED_DF,
        networks=RESIDUAL_18,
    )
