"""Rank stability: the order of the methods under each seed, and the rank sets over all of them."""

from matplotlib.figure import Figure

from advbench.leaderboards.cells import MISSING
from advbench.leaderboards.table import Row, Table
from advbench.reports.drawing.colours import FAMILY_COLOURS, OTHER
from advbench.reports.drawing.points import doubtful, footnote, marked_name
from advbench.reports.drawing.style import PAPER, FigureLayout, ReportError, caption, figure, legend_of_families, scaled


def draw(table: Table, *, robust: str = "autoattack", layout: FigureLayout = PAPER) -> Figure:
    """Draw the place of each method under every seed as a line, with its rank set on the board.

    A place under one seed is the order of the accuracies on `best` in the column `robust` and no more; the rank set at
    the right, by AutoAttack, counts only who is beaten significantly. Lines that cross between seeds are what rank sets
    leave open. The seeds are those that give the most places, rows × seeds; the caption counts the rows without them.

    Raises:
        ReportError: unless two methods share two seeds.
    """
    best = [row for row in table.rows if row.checkpoint == "best" and row.cells[robust].n == len(row.seeds) > 0]
    sets = {frozenset(row.seeds) for row in best}
    held = {shared: [row for row in best if shared <= set(row.seeds)] for shared in {a & b for a in sets for b in sets}}
    held = {shared: rows for shared, rows in held.items() if len(shared) > 1 and len(rows) > 1}
    if not held:
        raise ReportError("rank stability needs two methods with two seeds in common")
    chosen = max(held, key=lambda shared: (len(shared) * len(held[shared]), len(shared), sorted(shared)))
    seeds, rows = sorted(chosen), held[chosen]
    places: dict[str, list[int]] = {row.key: [] for row in rows}
    for seed in seeds:
        ordered = sorted(rows, key=lambda row: (-row.cells[robust].values[row.seeds.index(seed)], row.label))
        for place, row in enumerate(ordered, 1):
            places[row.key].append(place)
    across, tall = layout.listed(len(rows), head=1.2)
    with figure(across, tall, layout) as made:
        axes = made.add_subplot()
        for row in rows:
            colour, marker = FAMILY_COLOURS.get(row.identity.family, OTHER)
            axes.plot(range(len(seeds)), places[row.key], color=colour, linewidth=scaled(1.2), alpha=0.85)
            axes.plot(
                range(len(seeds)),
                places[row.key],
                marker,
                color=colour,
                markerfacecolor="white" if doubtful(row) else colour,
                markersize=scaled(4.5),
                zorder=3,
            )
        axes.set_xticks(range(len(seeds)), [f"seed {seed}" for seed in seeds])
        axes.set_xlim(-0.15, len(seeds) - 0.85)
        axes.set_yticks(range(1, len(rows) + 1))
        axes.set_ylim(len(rows) + 0.6, 0.4)
        axes.set_ylabel(f"Place by {table.column(robust).label}")
        axes.grid(visible=False, axis="y")
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        by_last = sorted(rows, key=lambda row: places[row.key][-1])
        right.set_yticks(range(1, len(rows) + 1), [_with_rank(row) for row in by_last])
        right.tick_params(axis="y", length=0)
        right.grid(visible=False)
        right.spines[:].set_visible(False)
        missing = len(best) - len(rows)
        left_out = f"; not drawn: {missing} without these seeds" if missing else ""
        signs = footnote(marked_name(row) for row in rows)
        caption(axes, f"{table.title}; rank set on the board in brackets{left_out}", signs)
        legend_of_families(made, axes, [row.identity.family for row in rows])
        return made


def _with_rank(row: Row) -> str:
    return f"{marked_name(row)} [{row.rank or MISSING}]"
