"""Learning curves per method over the epochs: validation accuracies, clean and under PGD, and what training logged.

Newer records have the same accuracies on training images: then they are drawn beside validation. Older ones have the
mean training loss of each epoch: it is drawn in per cent of its first, which shows whether training goes on where
validation has stopped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from advbench.benchmark.records.schema import Epoch, Record
from advbench.reports.drawing.colours import BLUE, GREY, INK, ORANGE
from advbench.reports.drawing.points import footnote
from advbench.reports.drawing.style import COLUMN, PAGE, PAPER, FigureLayout, ReportError, figure, scaled

ONE_LINE = 18
"""Letters of a panel's title that stand in one line."""


class _Curve(NamedTuple):
    """One quantity of an epoch: how it is read (None: not recorded), called and drawn; `attack` is the protocol's."""

    read: Callable[[Epoch], float | None]
    label: str
    colour: str
    line: str | tuple[int, tuple[float, ...]]


def _worst(epoch: Epoch) -> float | None:
    """Return the worst case that chose `best`; None where cross-entropy alone chose it."""
    return epoch.robust if "ce" in epoch.logged else None


_VALIDATION = (
    _Curve(lambda epoch: epoch.clean, "clean, validation", BLUE, "-"),
    _Curve(lambda epoch: epoch.logged.get("ce", epoch.robust), "{attack}, validation", ORANGE, "--"),
    _Curve(_worst, "worst of {attack} and margin, validation", "#cc79a7", (0, (4, 1, 1, 1))),
)
_TRAINING = (
    _Curve(lambda epoch: epoch.logged.get("train_clean"), "clean, training", "#56b4e9", "-."),
    _Curve(lambda epoch: epoch.logged.get("train_robust"), "{attack}, training", "#e69f00", ":"),
)
_LOSS = _Curve(lambda epoch: epoch.loss, "training loss, % of first epoch", GREY, (0, (1, 1)))


def draw(groups: Mapping[str, Sequence[Record]], *, layout: FigureLayout = PAPER) -> Figure:
    """Draw one panel per method, mean over seeds with the range of the seeds, `best` marked.

    Args:
        groups: records of one protocol digest, by the name of their row with its signs.
        layout: the page it is for; by default the figure takes as many columns as the panels need.

    Raises:
        ReportError: for records of two protocols, or without any learning curve.
    """
    if len({record.protocol_digest for records in groups.values() for record in records}) > 1:
        raise ReportError("learning curves of two protocols do not share an axis; choose one with --protocol")
    methods = {name: [record for record in records if record.training.curve] for name, records in groups.items()}
    methods = {name: records for name, records in methods.items() if records}
    if not methods:
        raise ReportError("no record has a learning curve; train first")
    columns = _columns(len(methods), layout)
    rows = math.ceil(len(methods) / columns)
    across = layout.inches(PAGE if columns > 2 else COLUMN if columns == 1 else PAGE * 0.7)
    with figure(across, 0.65 + (1.45 if layout.paper else 1.0) * rows, layout) as made:
        grid = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        flat: list[Axes] = list(grid.ravel())
        drawn: set[_Curve] = set()
        for axes, (name, records) in zip(flat, methods.items(), strict=False):
            drawn |= _panel(axes, name, records)
        for axes in flat[len(methods) :]:
            axes.set_axis_off()
        flat[0].xaxis.set_major_locator(MaxNLocator(4, integer=True))
        made.supxlabel("\n".join(filter(None, ("Epoch", footnote(methods)))), fontsize="medium")
        made.supylabel("Accuracy (%)", fontsize="medium")
        made.legend(
            handles=_key(list(methods.values()), drawn),
            loc="outside upper center",
            ncols=5 if across > 1.5 * COLUMN else 2,
            handlelength=2.2,
            columnspacing=1.2,
        )
        return made


def _columns(panels: int, layout: FigureLayout) -> int:
    """Return how many panels stand side by side: few on paper, as many as a slide is wide."""
    if layout.width == "single":
        return min(panels, 2 if panels <= 8 else 3 if panels <= 18 else 4)
    return min(panels, 4 if panels <= 20 else 5) if layout.paper else math.ceil(math.sqrt(1.7 * panels))


def _panel(axes: Axes, name: str, records: Sequence[Record]) -> set[_Curve]:
    """Draw one method; return which curves it has."""
    drawn = set()
    training = [curve for curve in _TRAINING if _stack(records, curve) is not None]
    for curve in (*_VALIDATION, *(training or [_LOSS])):
        stacked = _stack(records, curve)
        if stacked is None:
            continue
        epochs, values = stacked
        if curve is _LOSS:
            if not (values[:, :1] > 0).all():
                continue
            values = values / values[:, :1]
        drawn.add(curve)
        axes.plot(epochs, 100 * values.mean(axis=0), linestyle=curve.line, color=curve.colour)
        if len(values) > 1:
            low, high = 100 * values.min(axis=0), 100 * values.max(axis=0)
            axes.fill_between(epochs, low, high, color=curve.colour, alpha=0.2, linewidth=0)
    for record in records:
        best = record.training.best_epoch
        if best is not None:
            axes.axvline(best, color=GREY, linewidth=scaled(0.5), linestyle=(0, (1, 2)), zorder=0)
            at = [epoch.robust for epoch in record.training.curve if epoch.epoch == best]
            axes.plot([best] * len(at), [100 * value for value in at], "v", color=INK, markersize=scaled(3), zorder=4)
    diverged = sum(record.training.diverged is not None for record in records)
    title = f"{name} ({diverged} diverged)" if diverged else name
    axes.set_title(title if len(title) <= ONE_LINE else fill(title, ONE_LINE), fontsize="medium")
    axes.set_ylim(0, 103)
    return drawn


def _stack(records: Sequence[Record], curve: _Curve) -> tuple[np.ndarray, np.ndarray] | None:
    """Return epochs and values (seeds, epochs) over the epochs that every seed has; None where one has none."""
    read = [
        {epoch.epoch: float(value) for epoch in record.training.curve if (value := curve.read(epoch)) is not None}
        for record in records
    ]
    shared = sorted(set.intersection(*(set(values) for values in read)))
    return (np.array(shared), np.array([[values[epoch] for epoch in shared] for values in read])) if shared else None


def _key(methods: Sequence[Sequence[Record]], drawn: set[_Curve]) -> list[Line2D | Patch]:
    first = methods[0][0]
    attack = f"PGD-{first.protocol.selection.steps}"
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=curve.colour, linestyle=curve.line, label=curve.label.format(attack=attack))
        for curve in (*_VALIDATION, *_TRAINING, _LOSS)
        if curve in drawn
    ]
    if any(len(records) > 1 for records in methods):
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label="range of the seeds"))
    if any(record.training.best_epoch is not None for records in methods for record in records):
        handles.append(Line2D([], [], color=INK, marker="v", markersize=scaled(3), linestyle="none", label="best"))
    return handles
