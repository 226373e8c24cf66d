"""Options of `leaderboard`: which rows in which order, and how a format writes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import NAMES, POSITIVE, either_checkpoint, flag, gather, methods_option

if TYPE_CHECKING:
    from advbench.leaderboards.selection import Filters
    from advbench.leaderboards.table import Table
    from advbench.leaderboards.writers.latex import Layout

DIVISION = click.Choice(["closed", "tuned", "own-recipe", "open"])
"""Those of `selection.DIVISIONS`, which is slower to import than help may be."""
BLOCKS = {"best-last": "rows", "side-by-side": "columns", "per-attack": "attacks"}
"""What `--blocks` calls the blocks of `Layout`."""


@dataclass(frozen=True)
class Choice:
    """Which columns and rows of boards are shown: those `Filters` that were given."""

    filters: "Filters"

    @classmethod
    def of(cls, *, checkpoint: str, **filters: Any) -> "Choice":  # noqa: ANN401 (options)
        """Return the choice that options ask for."""
        points = None if checkpoint == "both" else (checkpoint,)
        given = {"checkpoints": points, **filters}
        return cls(cast("Filters", {name: value for name, value in given.items() if value is not None}))

    def apply(self, tables: "Sequence[Table]") -> "list[Table]":
        """Return what is left of boards.

        Raises:
            Refused: if that is no row.
        """
        from advbench.leaderboards.table import select_all

        if not self.filters:
            return list(tables)
        chosen = select_all(tables, **self.filters)
        if not any(table.rows for table in chosen):
            raise Refused("no row fits these filters: leave one out")
        return chosen


@dataclass(frozen=True)
class Format:
    """How boards are printed: terminal, markdown, csv, html or latex, with the options of LaTeX that were given."""

    kind: str
    decimals: int | None
    latex: dict[str, Any]

    @classmethod
    def of(cls, *, kind: str, decimals: int | None, **latex: Any) -> "Format":  # noqa: ANN401 (options)
        """Return the format that options ask for.

        Raises:
            Refused: for options that the format does not have.
        """
        given = {name: value for name, value in latex.items() if value is not None}
        if given and kind != "latex":
            words = ", ".join(f"--{'width' if name == 'span' else name.replace('_', '-')}" for name in given)
            raise Refused(f"{words}: only with --format latex")
        if decimals is not None and kind == "csv":
            raise Refused("--decimals: CSV has every digit")
        return cls(kind, decimals, given)

    def layout(self, columns: Sequence[str] | None) -> "Layout | None":
        """Return how LaTeX sets boards; None for other formats."""
        from advbench.leaderboards.writers.latex import Layout

        if self.kind != "latex":
            return None
        options = dict(self.latex)
        if options.pop("plain", False):
            options["style"] = "plain"
        if "blocks" in options:
            options["blocks"] = BLOCKS[options["blocks"]]
        return Layout(columns=None if columns is None else tuple(columns), decimals=self.decimals, **options)


choice_options = gather(
    "choice",
    Choice.of,
    click.option("--columns", type=NAMES, help="Keys of the columns to show, such as clean,autoattack."),
    methods_option(help="Only these methods."),
    either_checkpoint,
    click.option("--dataset", type=NAMES, help="Only boards of these data sets, such as cifar10."),
    click.option("--network", type=NAMES, help="Only boards of these networks."),
    click.option("--family", type=NAMES, help='Only methods of these families: "two networks".'),
    click.option("--since", metavar="DAY", help="Only rows recorded on this day or later, such as 2026-01-31."),
    click.option("--until", metavar="DAY", help="Only rows recorded on this day or earlier."),
    click.option("--division", type=DIVISION, help="Only rows of this division."),
    click.option(
        "--sort",
        metavar="KEY[:asc|desc]",
        help="Sort by a column, family, year (of the paper) or date.  [default: mean AutoAttack]",
    ),
    click.option("--top", type=POSITIVE, help="Only this many methods, the first ones."),
)
format_options = gather(
    "form",
    Format.of,
    click.option(
        "--format",
        "kind",
        type=click.Choice(["terminal", "markdown", "csv", "html", "latex"]),
        default="terminal",
        show_default=True,
        help="What to print.",
    ),
    click.option("--decimals", type=click.IntRange(0, 6), help="Of accuracies.  [default: as the images support]"),
    flag("--transpose", default=None, help="LaTeX: methods as columns."),
    click.option("--venue", type=click.Choice(["cvpr", "neurips", "icml"]), help="LaTeX: fit this venue's style."),
    click.option(
        "--width", "span", type=click.Choice(["single", "double"]), help="LaTeX: columns of the page to span."
    ),
    flag("--plain", default=None, help="LaTeX: without booktabs."),
    click.option(
        "--group-by",
        type=click.Choice(["dataset", "network", "family"]),
        help="LaTeX: several boards in one table by data set or network, or methods by family.",
    ),
    click.option("--baseline", metavar="METHOD", help="LaTeX: differences to this method in parentheses."),
    click.option("--blocks", type=click.Choice(list(BLOCKS)), help="LaTeX: how best and last are set apart."),
    flag("--second", default=None, help="LaTeX: underline what the fewest rows beat, after bold."),
    flag("--intervals", default=None, help="LaTeX: Wilson intervals in the cells of single seeds."),
    click.option("--cite/--no-cite", default=None, help="LaTeX: citation keys after the methods.  [default: cite]"),
    click.option("--caption", metavar="TEX", help="LaTeX: caption, as source."),
    click.option("--label", metavar="NAME", help="LaTeX: label.  [default: tab:advbench]"),
)
