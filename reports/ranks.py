"""Rank sets: for every ranked method the ranks that seeds and images leave open, the highest mean on top."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from advbench.leaderboards.table import Table, show
from advbench.reports.drawing.colours import FAMILY_COLOURS, GREY, OTHER
from advbench.reports.drawing.points import marked_name
from advbench.reports.drawing.style import PAPER, FigureLayout, ReportError, caption, figure, legend_of_families, scaled


def draw(table: Table, *, layout: FigureLayout = PAPER) -> Figure:
    """Draw the rank set of every ranked row as a bar from its lowest to its highest rank, filled where it holds 1.

    At the right stands the mean of AutoAttack on `best`, by which the rows are ordered.

    Raises:
        ReportError: if the board has no ranks.
    """
    best = [row for row in table.rows if row.checkpoint == "best"]
    rows = [row for row in best if row.rank]
    if not rows:
        raise ReportError(f"{table.protocol} has no ranks yet: too few seeds to tell methods apart")
    column = table.column("autoattack")
    with figure(*layout.listed(len(rows), head=1.2), layout) as made:
        axes = made.add_subplot()
        for place, row in enumerate(rows, 1):
            colour, marker = FAMILY_COLOURS.get(row.identity.family, OTHER)
            low, high = row.cells["rank"].interval or (0.0, 0.0)
            fill = colour if low == 1 else "white"
            axes.plot([low, high], [place, place], color=colour, linewidth=scaled(1.6), solid_capstyle="butt")
            axes.plot([low, high], [place, place], marker, color=colour, markerfacecolor=fill, markersize=scaled(4.5))
        axes.set_yticks(range(1, len(rows) + 1), [marked_name(row) for row in rows])
        axes.set_ylim(len(rows) + 0.6, 0.4)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(left=0.5)
        axes.set_xlabel("Rank by AutoAttack on best")
        axes.spines["left"].set_visible(False)
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        means = [show(row.cells["autoattack"], column, table.decimals, intervals=False).plain for row in rows]
        right.set_yticks(range(1, len(rows) + 1), means)
        right.tick_params(axis="y", length=0, labelcolor=GREY)
        right.grid(visible=False)
        right.spines[:].set_visible(False)
        without = f"; {len(best) - len(rows)} rows without rank" if len(best) > len(rows) else ""
        caption(axes, f"{table.title}; at the right AutoAttack (%); filled: beaten by no row{without}")
        legend_of_families(made, axes, [row.identity.family for row in rows])
        return made
