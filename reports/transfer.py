"""The transfer matrix as a figure and in words. Torch-free; reads the JSON data of `benchmark/transfer.py`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from advbench.reports.style import FORMATS, INK, PAGE, Look, ReportError, figure, save


def draw(found: Mapping[str, Any], stem: Path, *, formats: Sequence[str] = FORMATS, look: Look = "paper") -> list[Path]:
    """Draw the matrix, clean accuracy above it, the smallest value of every column framed; return the files.

    Raises:
        ReportError: if this is no transfer matrix.
    """
    if found.get("kind") != "transfer":
        raise ReportError("this is no transfer matrix; `advbench transfer` makes one")
    names = found["names"]
    shares = 100 * np.array([found["clean"], *found["accuracy"]])
    size = 1.1 + 0.24 * len(names)
    with figure(min(PAGE, 2.4 + 0.4 * len(names)), size, look) as made:
        axes = made.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for row, column in np.ndindex(shares.shape):
            value = shares[row, column]
            colour = "white" if value > 60 else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=6)
        for column in range(len(names)):
            row = 1 + int(shares[1:, column].argmin())
            frame = Rectangle(
                (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#d55e00", linewidth=1.2, clip_on=False
            )
            axes.add_patch(frame)
        axes.axhline(0.5, color="white", linewidth=2)
        axes.set_yticks(range(len(names) + 1), ["clean", *names])
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_ylabel("examples made on")
        axes.set_xlabel("judged by")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title("accuracy (%); framed: strongest examples", loc="left")
        return save(made, stem, formats)


def misled(found: Mapping[str, Any]) -> list[str]:
    """Say of which networks the examples of another fool more images than their own PGD-20 does."""
    shares, names = np.array(found["accuracy"]), found["names"]
    said = []
    for column, name in enumerate(names):
        row = int(shares[:, column].argmin())
        gap = round(float(shares[column, column] - shares[row, column]) * found["images"])
        if gap > 0:
            said.append(f"{name}: examples of {names[row]} fool {gap} images more than its own")
    return said
