"""Robust overfitting: an arrow for each method from its best checkpoint to its last."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advbench.leaderboards.table import Table, show
from advbench.reports.drawing.colours import GREY, INK
from advbench.reports.drawing.points import doubtful, footnote, marked_name, measured
from advbench.reports.drawing.style import PAPER, FigureLayout, ReportError, figure, scaled

BAR = "#a8a8a8"


def draw(table: Table, *, robust: str = "autoattack", layout: FigureLayout = PAPER) -> Figure:
    """Draw best → last under one attack, most robust method on top, the gap written at the right.

    Args:
        table: the board.
        robust: "autoattack" or "pgd20".
        layout: the page it is for.

    Raises:
        ReportError: if no method selected by robustness has both checkpoints measured.
    """
    if robust not in {"autoattack", "pgd20"}:
        raise ReportError(f"the gap is defined for autoattack and pgd20, not for {robust}")
    last = {row.key: measured(row, robust) for row in table.rows if row.checkpoint == "last"}
    pairs = [
        (row, before, after)
        for row in table.rows
        if row.checkpoint == "best"
        and row.cells[f"gap_{robust}"].mean is not None
        and (before := measured(row, robust))
        and (after := last.get(row.key))
    ]
    if not pairs:
        raise ReportError(f"no method of {table.protocol} has {robust} on both checkpoints; evaluate first")
    pairs.sort(key=lambda pair: pair[1].value)
    rows = [row for row, _, _ in pairs]
    with figure(*layout.listed(len(pairs), head=0.75), layout) as made:
        axes = made.add_subplot()
        for height, (_, *both) in enumerate(pairs):  # bars beside the arrow, not on it: of best above, of last below
            for point, offset in zip(both, (0.22, -0.22), strict=True):
                span = [point.value - point.below, point.value + point.above]
                axes.plot(span, [height + offset] * 2, color=BAR, linewidth=scaled(1))
        for height, (row, before, after) in enumerate(pairs):
            _arrow(axes, height, before.value, after.value, face="white" if doubtful(row) else INK)
        names = [marked_name(row) for row in rows]
        axes.set_yticks(range(len(pairs)), names)
        axes.set_ylim(-0.6, len(pairs) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{table.column(robust).label} accuracy (%), best → last")
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        column = table.column(f"gap_{robust}")
        gaps = [show(row.cells[column.key], column, table.decimals).plain.replace("-", "−") for row in rows]
        right.set_yticks(range(len(pairs)), gaps)
        right.tick_params(axis="y", length=0, labelcolor=GREY)
        right.spines[:].set_visible(False)
        right.grid(visible=False)
        right.text(1.02, 1.0, "best − last", transform=axes.transAxes, fontsize="small", color=GREY, va="bottom")
        handles = [
            _key("o", 4, label="best"),
            _key("|", 6, label="last", edge=1.2),
        ]
        if any(doubtful(row) for row in rows):
            handles.append(_key("o", 4, label="in doubt", face="white"))
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1),
            ncols=3,
            borderaxespad=0.1,
            handletextpad=0.2,
            columnspacing=1,
        )
        if signs := footnote(names):
            made.supxlabel(signs, fontsize="x-small", color=GREY)
        return made


def _key(marker: str, size: float, *, label: str, face: str = INK, edge: float = 1.0) -> Line2D:
    return Line2D(
        [],
        [],
        marker=marker,
        color=INK,
        markerfacecolor=face,
        linestyle="none",
        markersize=scaled(size),
        markeredgewidth=scaled(edge),
        label=label,
    )


def _arrow(axes: Axes, height: int, best: float, last: float, *, face: str) -> None:
    """Draw one method: dot at best, tick at last, and an arrow between them where there is room for it."""
    low, high = axes.get_xlim()
    if abs(last - best) > 0.05 * (high - low):
        arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0, "mutation_scale": scaled(6)}
        axes.annotate("", xy=(last, height), xytext=(best, height), arrowprops=arrow)
    axes.plot(last, height, "|", color=INK, markersize=scaled(6), markeredgewidth=scaled(1.2))
    axes.plot(best, height, "o", color=INK, markerfacecolor=face, markersize=scaled(4), zorder=4)
