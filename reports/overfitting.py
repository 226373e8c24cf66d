"""Robust overfitting: an arrow for each method from its best checkpoint to its last."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advbench.leaderboards.table import Row, Table, show
from advbench.reports.drawing.points import Measured, doubtful, footnote, marked_name, measured
from advbench.reports.drawing.style import GREY, INK, PAPER, Layout, ReportError, figure, scaled

BAR = "#a8a8a8"


def draw(table: Table, *, robust: str = "autoattack", layout: Layout = PAPER) -> Figure:
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
    last = {row.key: row for row in table.rows if row.checkpoint == "last"}
    pairs = [
        (row, last[row.key])
        for row in table.rows
        if row.checkpoint == "best" and row.key in last and row.cells[f"gap_{robust}"].mean is not None
    ]
    if not pairs:
        raise ReportError(f"no method of {table.protocol} has {robust} on both checkpoints; evaluate first")
    pairs.sort(key=lambda pair: pair[0].cells[robust].mean or 0.0)
    with figure(*layout.listed(len(pairs), head=0.75), layout.style) as made:
        axes = made.add_subplot()
        for height, (best, after) in enumerate(pairs):
            _bars(axes, height, best, after, robust)
        for height, (best, after) in enumerate(pairs):
            _arrow(axes, height, best, after, robust)
        names = [marked_name(best) for best, _ in pairs]
        axes.set_yticks(range(len(pairs)), names)
        axes.set_ylim(-0.6, len(pairs) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{table.column(robust).label} accuracy (%), best → last")
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        column = table.column(f"gap_{robust}")
        gaps = [show(best.cells[column.key], column, table.decimals).plain.replace("-", "−") for best, _ in pairs]
        right.set_yticks(range(len(pairs)), gaps)
        right.tick_params(axis="y", length=0, labelcolor=GREY)
        right.spines[:].set_visible(False)
        right.grid(visible=False)
        right.text(1.02, 1.0, "best − last", transform=axes.transAxes, fontsize="small", color=GREY, va="bottom")
        handles = [
            _key("o", 4, label="best"),
            _key("|", 6, label="last", edge=1.2),
        ]
        if any(doubtful(best) for best, _ in pairs):
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


def _both(best: Row, last: Row, robust: str) -> tuple[Measured, Measured]:
    before, after = measured(best, robust), measured(last, robust)
    if before is None or after is None:
        raise AssertionError("a gap is there only where both checkpoints are")
    return before, after


def _bars(axes: Axes, height: int, best: Row, last: Row, robust: str) -> None:
    """Draw the bars of one method beside its arrow, not on it: of best above, of last below."""
    for one, offset in zip(_both(best, last, robust), (0.22, -0.22), strict=True):
        axes.plot([one.value - one.below, one.value + one.above], [height + offset] * 2, color=BAR, linewidth=scaled(1))


def _arrow(axes: Axes, height: int, best: Row, last: Row, robust: str) -> None:
    """Draw one method: dot at best, tick at last, and an arrow between them where there is room for one."""
    before, after = _both(best, last, robust)
    low, high = axes.get_xlim()
    if abs(after.value - before.value) > 0.05 * (high - low):
        arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0, "mutation_scale": scaled(6)}
        axes.annotate("", xy=(after.value, height), xytext=(before.value, height), arrowprops=arrow)
    axes.plot(after.value, height, "|", color=INK, markersize=scaled(6), markeredgewidth=scaled(1.2))
    face = "white" if doubtful(best) else INK
    axes.plot(before.value, height, "o", color=INK, markerfacecolor=face, markersize=scaled(4), zorder=4)
