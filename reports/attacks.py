"""Agreement of the attacks: whether they fool the same images, and what each adds to weaker ones. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advbench.benchmark.records.schema import COLUMNS
from advbench.benchmark.records.statistics import Correct
from advbench.reports.drawing.colours import INK
from advbench.reports.drawing.heat_map import heat
from advbench.reports.drawing.points import footnote, name_of
from advbench.reports.drawing.style import PAGE, PAPER, TALL, FigureLayout, ReportError, caption, figure, scaled

ATTACKS = COLUMNS[1:]
BESIDE = 12
"""Methods up to which the matrix of the attacks stands beside them: beside more it would leave a page half empty."""
_PARTS = (
    # Right under all attacks, fooled first by each of them, wrong when clean: from light to dark, each with its hatch.
    ("#ffffff", ""),
    ("#cfe3f3", "...."),
    ("#8bbbdd", "////"),
    ("#e69f00", "\\\\\\\\"),
    ("#d55e00", "xxxx"),
    ("#4d4d4d", ""),
)


@dataclass(frozen=True)
class Fooled:
    """Which images the attacks fool.

    Attributes:
        rows: names of the methods.
        attacks: keys of the columns that every row has, weakest first.
        also: (attacks, attacks): of the images that the row's attack fools, the share that the column's attack fools,
            too; mean over networks, NaN where nobody is fooled.
        parts: (rows, attacks + 2): shares of images right under everything, fooled first by each attack in turn (in
            the order of `attacks`), and wrong without any; mean over seeds.
    """

    rows: tuple[str, ...]
    attacks: tuple[str, ...]
    also: NDArray[np.float64]
    parts: NDArray[np.float64]


def fooled(rows: Mapping[str, Mapping[str, Correct]]) -> Fooled:
    """Compare the attacks on each network: outcomes (seeds, images) of rows, by column.

    Raises:
        ReportError: unless there is a row with clean accuracy and two attacks.
    """
    attacks = tuple(name for name in ATTACKS if any(name in columns for columns in rows.values()))
    whole = {name: columns for name, columns in rows.items() if {"clean", *attacks} <= set(columns)}
    if not whole or len(attacks) < 2:
        raise ReportError("agreement of attacks needs a method with clean accuracy and two attacks measured")
    also: list[NDArray[np.float64]] = []
    parts = np.zeros((len(whole), len(attacks) + 2))
    for number, columns in enumerate(whole.values()):
        shapes = {columns[name].shape for name in ("clean", *attacks)}
        if len(shapes) > 1:
            raise ReportError("agreement of attacks needs all of them on the same images and seeds; evaluate the rest")
        for seed, clean in enumerate(columns["clean"]):
            hits = [clean & ~columns[name][seed] for name in attacks]
            also.append(np.array([[_share(b[a]) for b in hits] for a in hits]))
            alive = clean
            for place, hit in enumerate(hits, 1):
                parts[number, place] += (alive & hit).mean()
                alive = alive & ~hit
            parts[number, 0] += alive.mean()
            parts[number, -1] += (~clean).mean()
        parts[number] /= len(columns["clean"])
    stacked = np.array(also)
    seen = np.isfinite(stacked).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(stacked, axis=0) / seen
    return Fooled(tuple(whole), attacks, mean, parts)


def _share(outcomes: NDArray[np.bool_]) -> float:
    return float(outcomes.mean()) if outcomes.size else float("nan")


def draw(found: Fooled, *, title: str = "best", layout: FigureLayout = PAPER) -> Figure:
    """Draw the matrix of the attacks beside what each of them adds for every method; `title` names the checkpoint."""
    names = [name_of(attack) for attack in found.attacks]
    tall = max(1.9, 0.8 + (0.175 if layout.paper else 0.125) * len(found.rows))
    narrow = layout.width == "single"
    stacked = narrow or len(found.rows) > BESIDE
    with figure(layout.inches(PAGE), min(TALL, tall + (1.9 if stacked else 0.4)), layout) as made:
        if stacked:
            above, below = made.subplots(2, 1, height_ratios=[1.3, tall - 0.5])
        else:
            above, below = made.subplots(1, 2, width_ratios=[2, 3])
            above.set_box_aspect(0.8)
            above.set_anchor("N")
        left = np.zeros(len(found.rows))
        places = np.arange(len(found.rows))[::-1]
        fooled_by = [f"{'+ ' if number else 'fooled by '}{name}" for number, name in enumerate(names)]
        labels = ["right under all", *fooled_by, "wrong when clean"]
        fills = [*_PARTS[: 1 + len(names)], _PARTS[-1]]
        edge = {"edgecolor": INK, "linewidth": scaled(0.3)}
        for share, label, (colour, hatch) in zip(100 * found.parts.T, labels, fills, strict=True):
            below.barh(places, share, 0.8, left=left, color=colour, hatch=hatch, label=label, **edge)
            left += share
        below.set_yticks(places, found.rows)
        below.tick_params(axis="y", length=0)
        below.set_ylim(-0.6, len(found.rows) - 0.4)
        below.set_xlim(0, 100)
        below.set_xlabel("test images (%)")
        below.grid(visible=False)
        made.legend(loc="outside upper right", ncols=2 if narrow else 6, handlelength=1.6, columnspacing=1.0)
        share = 0.8 if stacked else 0.4
        caption(above, f"fooled by row, also by column (%), {title}", footnote(found.rows), share=share)
        heat(above, 100 * found.also, rows=names, columns=names)
        return made
