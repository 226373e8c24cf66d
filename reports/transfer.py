"""The transfer matrix as a figure and in words. Torch-free; reads what `evaluation/transfer.py` writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from advbench.reports.drawing.heat_map import heat
from advbench.reports.drawing.style import (
    FORMATS,
    ORANGE,
    PAGE,
    TALL,
    Look,
    ReportError,
    Width,
    caption,
    figure,
    inches,
    save,
    scaled,
)


def draw(
    found: Mapping[str, Any],
    stem: Path,
    *,
    formats: Sequence[str] = FORMATS,
    look: Look = "paper",
    width: Width = "auto",
) -> list[Path]:
    """Draw the matrix, clean accuracy above it, the smallest value of every column framed; return the files.

    Raises:
        ReportError: if this is no transfer matrix.
    """
    if found.get("kind") != "transfer":
        raise ReportError("this is no transfer matrix; `advbench transfer` makes one")
    names = found["names"]
    shares = 100 * np.array([found["clean"], *found["accuracy"]])
    if shares.shape != (len(names) + 1, len(names)):
        raise ReportError(f"{len(names)} networks, but accuracies of shape {shares.shape}; make the matrix anew")
    tall = min(TALL, 1.1 + (0.2 if look == "paper" else 0.13) * (len(names) + 1))
    across = inches(width, min(PAGE, 2.4 + 0.4 * len(names)))
    with figure(across, tall, look) as made:
        axes = made.add_subplot()
        axes.set_ylabel("examples made on")
        axes.set_xlabel("judged by")
        part = f"{found['images']} test images"
        if found["images"] < found.get("test", found["images"]):
            part = f"the first {found['images']} of {found['test']} test images"
        about = f"accuracy (%) on PGD-20 examples of {part}; framed: the strongest examples against a network"
        caption(axes, 0.8 * across, f"{found['protocol']}: {about}" if "protocol" in found else about)
        heat(axes, shares, rows=["clean", *names], columns=names)
        for column in range(len(names)):
            row = 1 + int(shares[1:, column].argmin())
            frame = Rectangle(
                (column - 0.5, row - 0.5),
                1,
                1,
                fill=False,
                edgecolor=ORANGE,
                linewidth=scaled(1.2),
                clip_on=False,
                zorder=3,
            )
            axes.add_patch(frame)
        axes.axhline(0.5, color="white", linewidth=scaled(2))
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
