"""Learning curves: validation accuracy, clean and under PGD-10, per method over the epochs."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from advbench.benchmark.records import Record
from advbench.reports.style import FORMATS, GREY, INK, PAGE, Look, ReportError, figure, save

CLEAN = "#0072b2"
ROBUST = "#d55e00"


def draw(
    records: Sequence[Record], stem: Path, *, formats: Sequence[str] = FORMATS, look: Look = "paper"
) -> list[Path]:
    """Draw one panel per method, mean over seeds with the range of the seeds, `best` marked; return the files.

    Args:
        records: of one protocol digest.
        stem: path of the files without their endings.
        formats: some of pdf, png, svg.
        look: "paper" (a page wide) or "slides".

    Raises:
        ReportError: for records of two protocols, or without any learning curve.
    """
    if len({record.protocol_digest for record in records}) > 1:
        raise ReportError("learning curves of two protocols do not share an axis; choose one with --protocol")
    methods: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.training.curve:
            methods[record.method.row].append(record)
    if not methods:
        raise ReportError("no record has a learning curve; train first")
    columns = min(4, len(methods))
    rows = math.ceil(len(methods) / columns)
    width = PAGE if columns > 2 else PAGE * 0.35 * columns
    head = 0.35 if columns > 2 else 0.9 / columns
    with figure(width, head + 1.45 * rows, look) as made:
        grid = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        flat: list[Axes] = list(grid.ravel())
        for axes, (name, several) in zip(flat, methods.items(), strict=False):
            _panel(axes, name, several)
        for number, axes in enumerate(flat[len(methods) :], len(methods)):
            axes.set_axis_off()
            # The panel above is the lowest one of its column: it shows the epochs.
            flat[number - columns].tick_params(labelbottom=True)
        made.supxlabel("Epoch", fontsize="medium")
        made.supylabel("Accuracy (%)", fontsize="medium")
        made.legend(
            handles=_key(methods),
            loc="outside upper center",
            ncols=4 if columns > 2 else columns,
            handlelength=2.2,
            columnspacing=1.2,
        )
        return save(made, stem, formats)


def _panel(axes: Axes, name: str, several: Sequence[Record]) -> None:
    """Draw one method."""
    for quantity, colour, line in (("clean", CLEAN, "-"), ("robust", ROBUST, "--")):
        epochs, values = _stack(several, quantity)
        _band(axes, epochs, values, colour, line)
    for record in several:
        best = record.training.best_epoch
        if best is not None:
            axes.axvline(best, color=GREY, linewidth=0.5, linestyle=(0, (1, 2)), zorder=0)
            at = [epoch.robust for epoch in record.training.curve if epoch.epoch == best]
            axes.plot([best] * len(at), [100 * value for value in at], "v", color=INK, markersize=3, zorder=4)
    stopped = [record.training.diverged for record in several if record.training.diverged]
    axes.set_title(f"{name}{f' ({len(stopped)} diverged)' if stopped else ''}")
    axes.set_ylim(0, 100)


def _band(axes: Axes, epochs: np.ndarray, values: np.ndarray, colour: str, line: str) -> None:
    axes.plot(epochs, 100 * values.mean(axis=0), line, color=colour)
    if len(values) > 1:
        low, high = 100 * values.min(axis=0), 100 * values.max(axis=0)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)


def _stack(several: Sequence[Record], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs and values (seeds, epochs) over the epochs that every seed has."""
    curves = [{epoch.epoch: float(getattr(epoch, quantity)) for epoch in record.training.curve} for record in several]
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return np.array(shared), np.array([[curve[epoch] for epoch in shared] for curve in curves])


def _key(methods: dict[str, list[Record]]) -> list[Line2D | Patch]:
    everything = [record for several in methods.values() for record in several]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=CLEAN, label="clean, validation"),
        Line2D([], [], color=ROBUST, linestyle="--", label="PGD-10, validation"),
    ]
    if any(len(several) > 1 for several in methods.values()):
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label="range of the seeds"))
    if any(record.training.best_epoch is not None for record in everything):
        handles.append(Line2D([], [], color=INK, marker="v", markersize=3, linestyle="none", label="best"))
    return handles
