"""How a paper wants its table: rules, width, venue, blocks, grouping."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

PER_CHECKPOINT = {"clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "nrr", "flags", "default", "gain"}
"""Columns that differ between best and last; the others belong to the method."""
SINGLE = ("clean", "pgd20", "cw", "autoattack", "gap_autoattack")
DOUBLE = ("rank", "clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "nrr", "gap_autoattack")
BY_ATTACK = {"single": ("clean", "autoattack"), "double": ("clean", "pgd20", "cw", "autoattack")}
"""With Best, Last and Diff. under every attack fewer attacks are legible."""


class Venue(NamedTuple):
    r"""What a conference's style file makes of a table.

    Attributes:
        name: as it is written.
        column, page: widths of a column and of the text in inches; the same where the text has one column.
        caption: where the venue sets captions of tables.
        cite: natbib's command for a citation in parentheses where the style loads natbib, else \cite.
    """

    name: str
    column: float
    page: float
    caption: Literal["above", "below"]
    cite: str

    @property
    def columns(self) -> int:
        """Columns of text on a page."""
        return 1 if self.column == self.page else 2


VENUES = {
    "cvpr": Venue("CVPR", 3.28125, 6.875, "below", r"\cite"),
    "neurips": Venue("NeurIPS", 5.5, 5.5, "above", r"\citep"),
    "icml": Venue("ICML", 3.25, 6.75, "above", r"\citep"),
}
"""From the venues' author kits."""
ANY = Venue("", 0.0, 1.0, "above", r"\cite")
"""Where no venue is named: two columns, whatever their widths."""


@dataclass(frozen=True, slots=True)
class Layout:
    r"""How a paper wants its table.

    Attributes:
        style: "booktabs" rules, or "plain" \hline for papers without the package.
        span: "single" column (`table`) or "double" (`table*`; where the venue has one column, `table`).
        venue: key of VENUES: caption, citations and the default columns fit it.
        blocks: best and last as blocks of "rows", side by side as blocks of "columns", or per attack ("attacks") with
            their difference, as papers on robust overfitting have them.
        group_by: order several boards by "dataset" or "network", each group under its title; or the methods of a board
            by "family".
        baseline: a method by name or label; accuracies of the others have their difference to it in parentheses.
        columns: keys of the columns; by default what fits the span, legibly.
        methods: only these methods.
        decimals: places of accuracies; by default as many as the test set supports.
        transpose: methods as columns.
        second: underline the rows beaten by the fewest of those that any row beats.
        cite: citation keys after the names of methods that `advbench bibtex` has an entry for.
        intervals: Wilson intervals in the cells of single seeds; otherwise the note gives their largest width.
        caption, label: of the float; a caption is LaTeX source, by default the protocols' names.
    """

    style: Literal["booktabs", "plain"] = "booktabs"
    span: Literal["single", "double"] = "single"
    venue: str | None = None
    blocks: Literal["rows", "columns", "attacks"] = "rows"
    group_by: Literal["dataset", "network", "family"] | None = None
    baseline: str | None = None
    columns: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    decimals: int | None = None
    transpose: bool = False
    second: bool = False
    cite: bool = True
    intervals: bool = False
    caption: str | None = None
    label: str = "tab:advbench"

    @property
    def place(self) -> Venue:
        """The venue, or what holds for any."""
        return ANY if self.venue is None else VENUES[self.venue]

    @property
    def wide(self) -> bool:
        """Whether the table is as wide as the page's text."""
        return self.span == "double" or self.place.columns == 1

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that fit by default."""
        if self.blocks == "attacks":
            return BY_ATTACK["double" if self.wide else "single"]
        return DOUBLE if self.wide and (self.blocks == "rows" or self.transpose) else SINGLE
