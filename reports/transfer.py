"""The transfer matrix as a figure and in words. Torch-free; reads what `evaluation/transfer.py` writes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from advbench.reports.drawing.colours import ORANGE
from advbench.reports.drawing.heat_map import heat
from advbench.reports.drawing.style import PAGE, PAPER, FigureLayout, ReportError, caption, figure, scaled


def draw(found: Mapping[str, Any], *, layout: FigureLayout = PAPER) -> Figure:
    """Draw the matrix, clean accuracy above it, the smallest value of every column framed.

    Raises:
        ReportError: if this is no transfer matrix.
    """
    if found.get("kind") != "transfer":
        raise ReportError("this is no transfer matrix; `advbench transfer` makes one")
    names = found["names"]
    shares = 100 * np.array([found["clean"], *found["accuracy"]])
    if shares.shape != (len(names) + 1, len(names)):
        raise ReportError(f"{len(names)} networks, but accuracies of shape {shares.shape}; make the matrix anew")
    tall = 1.1 + (0.2 if layout.paper else 0.13) * (len(names) + 1)
    with figure(layout.inches(min(PAGE, 2.4 + 0.4 * len(names))), tall, layout) as made:
        axes = made.add_subplot()
        axes.set_ylabel("examples made on")
        axes.set_xlabel("judged by")
        part = f"{found['images']} test images"
        if found["images"] < found.get("test", found["images"]):
            part = f"the first {found['images']} of {found['test']} test images"
        about = f"accuracy (%) on PGD-20 examples of {part}; framed: the strongest examples against a network"
        caption(axes, f"{found['protocol']}: {about}" if "protocol" in found else about, share=0.8)
        heat(axes, shares, rows=["clean", *names], columns=names)
        for column in range(len(names)):
            corner = (column - 0.5, 0.5 + int(shares[1:, column].argmin()))
            frame = Rectangle(corner, 1, 1, fill=False, clip_on=False, zorder=3)
            frame.set(edgecolor=ORANGE, linewidth=scaled(1.2))
            axes.add_patch(frame)
        axes.axhline(0.5, color="white", linewidth=scaled(2))
        return made


def misled(found: Mapping[str, Any]) -> list[str]:
    """Name in a sentence each network that the examples of another fool on more images than its own PGD-20."""
    shares, names = np.array(found["accuracy"]), found["names"]
    sentences = []
    for column, name in enumerate(names):
        row = int(shares[:, column].argmin())
        gap = round(float(shares[column, column] - shares[row, column]) * found["images"])
        if gap > 0:
            sentences.append(f"{name}: examples of {names[row]} fool {gap} images more than its own")
    return sentences
