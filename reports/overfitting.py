"""Robust overfitting: an arrow for each method from its best checkpoint to its last."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from advbench.leaderboards.table import Row, Table, show
from advbench.reports.points import measured
from advbench.reports.style import COLUMN, FORMATS, GREY, INK, Look, ReportError, figure, mark, save


def draw(
    table: Table, stem: Path, *, robust: str = "autoattack", formats: Sequence[str] = FORMATS, look: Look = "paper"
) -> list[Path]:
    """Draw best → last under one attack, most robust method on top, the gap written at the right; return the files.

    Args:
        table: the board.
        stem: path of the files without their endings.
        robust: "autoattack" or "pgd20".
        formats: some of pdf, png, svg.
        look: "paper" (one column wide) or "slides".

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
    with figure(COLUMN, 0.75 + 0.185 * len(pairs), look) as made:
        axes = made.add_subplot()
        for height, (best, after) in enumerate(pairs):
            _arrow(axes, height, best, after, robust)
        axes.set_yticks(range(len(pairs)), [f"{best.label} {best.signs}".strip() for best, _ in pairs])
        axes.set_ylim(-0.6, len(pairs) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{table.column(robust).label} accuracy (%), best → last")
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        column = table.column(f"gap_{robust}")
        gaps = [show(best.cells[column.key], column, table.decimals).plain for best, _ in pairs]
        right.set_yticks(range(len(pairs)), gaps)
        right.tick_params(axis="y", length=0, labelcolor=GREY)
        right.spines[:].set_visible(False)
        right.grid(visible=False)
        right.text(1.02, 1.0, "best − last", transform=axes.transAxes, fontsize="small", color=GREY, va="bottom")
        handles = [
            Line2D([], [], marker="o", color=INK, linestyle="none", markersize=4, label="best"),
            Line2D([], [], marker=">", color=INK, markersize=3, label="last"),
        ]
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
        return save(made, stem, formats)


def _arrow(axes: Axes, height: int, best: Row, last: Row, robust: str) -> None:
    """Draw one method: dot and bar at best, arrow to last."""
    before, after = measured(best, robust), measured(last, robust)
    if before is None or after is None:
        raise AssertionError("a gap is there only where both checkpoints are")
    look = mark(best.identity.family)
    for one, offset in ((before, 0.22), (after, -0.22)):
        # Beside the arrow, not on it: the bar of best above, of last below.
        span = [one.value - one.below, one.value + one.above]
        axes.plot(span, [height + offset] * 2, color=look.colour, alpha=0.5, linewidth=1)
    axes.annotate(
        "",
        xy=(after.value, height),
        xytext=(before.value, height),
        arrowprops={"arrowstyle": "-|>", "color": look.colour, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7},
    )
    hollow = {"masking", "invalid"} & set(best.marks)
    axes.plot(
        before.value, height, "o", color=look.colour, markerfacecolor="white" if hollow else look.colour, markersize=4
    )
