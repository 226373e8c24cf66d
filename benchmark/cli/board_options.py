"""Options of `leaderboard` that several formats share: which rows, in which order, and how LaTeX sets them."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import read_names

if TYPE_CHECKING:
    from advbench.leaderboards.table import Table
    from advbench.leaderboards.writers.latex import Layout

Command = Callable[..., Any]
BLOCKS = {"best-last": "rows", "side-by-side": "columns", "per-attack": "attacks"}
"""What `--blocks` calls the blocks of `Layout`."""


class Choice(NamedTuple):
    """Which columns and rows of boards are shown; the fields are the arguments of `Table.select`."""

    columns: tuple[str, ...] | None
    methods: tuple[str, ...] | None
    checkpoints: tuple[str, ...] | None
    dataset: tuple[str, ...] | None
    network: tuple[str, ...] | None
    family: tuple[str, ...] | None
    since: str | None
    until: str | None
    division: str | None
    sort: str | None

    def apply(self, tables: "Sequence[Table]") -> "list[Table]":
        """Return what is left of boards.

        Raises:
            Refused: if that is no row.
        """
        from advbench.leaderboards.table import select_all

        if not any(one is not None for one in self):
            return list(tables)
        chosen = select_all(tables, **self._asdict())
        if not any(table.rows for table in chosen):
            raise Refused("no row fits these filters: leave one out")
        return chosen


SELECTION = (
    click.option(
        "--columns", type=read_names, metavar="LIST", help="Keys of the columns to show, such as clean,autoattack."
    ),
    click.option("--methods", type=read_names, metavar="LIST", help="Only these methods."),
    click.option(
        "--checkpoint",
        type=click.Choice(["best", "last", "both"]),
        default="both",
        show_default=True,
        help="Which checkpoint.",
    ),
    click.option("--dataset", type=read_names, metavar="LIST", help="Only boards of these data sets, such as cifar10."),
    click.option("--network", type=read_names, metavar="LIST", help="Only boards of these networks."),
    click.option("--family", type=read_names, metavar="LIST", help='Only methods of these families: "two networks".'),
    click.option("--since", metavar="DAY", help="Only rows recorded on this day or later, such as 2026-01-31."),
    click.option("--until", metavar="DAY", help="Only rows recorded on this day or earlier."),
    click.option("--division", type=click.Choice(["closed", "open"]), help="Only rows of this division."),
    click.option(
        "--sort",
        metavar="KEY[:asc|desc]",
        help="Sort by a column, family, year (of the paper) or date.  [default: by rank]",
    ),
)
LATEX = (
    click.option("--transpose", is_flag=True, default=None, help="LaTeX: methods as columns."),
    click.option("--venue", type=click.Choice(["cvpr", "neurips", "icml"]), help="LaTeX: fit this venue's style."),
    click.option(
        "--width", "span", type=click.Choice(["single", "double"]), help="LaTeX: columns of the page to span."
    ),
    click.option("--plain", is_flag=True, default=None, help="LaTeX: without booktabs."),
    click.option(
        "--group-by", type=click.Choice(["dataset", "network"]), help="LaTeX: several boards in one table, by this."
    ),
    click.option(
        "--blocks", type=click.Choice(list(BLOCKS)), help="LaTeX: how best and last checkpoints are set apart."
    ),
    click.option("--second", is_flag=True, default=None, help="LaTeX: underline what comes next in rank."),
    click.option(
        "--intervals", is_flag=True, default=None, help="LaTeX: Wilson intervals in the cells of single seeds."
    ),
    click.option("--cite/--no-cite", default=None, help="LaTeX: citation keys after the methods.  [default: cite]"),
    click.option("--caption", metavar="TEX", help="LaTeX: caption, as source."),
    click.option("--label", metavar="NAME", help="LaTeX: label.  [default: tab:advbench]"),
)


def selecting(command: Command) -> Command:
    """Add the options that choose columns and rows; the command gets them as `choice`."""

    @wraps(command)
    def with_choice(*, checkpoint: str, **options: Any) -> Any:  # noqa: ANN401
        points = None if checkpoint == "both" else (checkpoint,)
        named = {name: options.pop(name) for name in Choice._fields if name != "checkpoints"}
        return command(choice=Choice(checkpoints=points, **named), **options)

    return _with(SELECTION, with_choice)


def setting(command: Command) -> Command:
    """Add the options of LaTeX; the command gets those that were given as `layout`."""

    @wraps(command)
    def with_layout(**options: Any) -> Any:  # noqa: ANN401
        names = ("transpose", "venue", "span", "plain", "group_by", "blocks", "second", "intervals", "cite", "caption")
        given = {name: value for name in (*names, "label") if (value := options.pop(name)) is not None}
        return command(layout=given, **options)

    return _with(LATEX, with_layout)


def read_layout(given: dict[str, Any], columns: tuple[str, ...] | None, decimals: int | None) -> "Layout":
    """Return the layout that options ask for."""
    from advbench.leaderboards.writers.latex import Layout

    options = dict(given)
    if options.pop("plain", False):
        options["style"] = "plain"
    if "blocks" in options:
        options["blocks"] = BLOCKS[options["blocks"]]
    return Layout(columns=columns, decimals=decimals, **options)


def _with(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
