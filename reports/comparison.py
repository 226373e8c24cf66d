"""Paired comparison of two methods, overall, by class and by image: numbers, sentences and a figure. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advbench.benchmark.protocol import Statistics
from advbench.benchmark.records.statistics import Comparison, Correct, compare, holm, mcnemar
from advbench.reports.drawing.colours import BLUE, GREY, INK, ORANGE
from advbench.reports.drawing.points import footnote, name_of
from advbench.reports.drawing.style import PAPER, FigureLayout, ReportError, caption, figure, scaled
from advbench.reports.perclass import NAMED, Labels

SHOWN = 10
"""Images that are listed."""


@dataclass(frozen=True)
class ClassDifference:
    """A against B on the images of one class; accuracies in [0,1], `p` adjusted by Holm over the classes."""

    name: str
    images: int
    a: float
    b: float
    p: float


@dataclass(frozen=True)
class Contrast:
    """Outcomes of A against those of B under one attack.

    Attributes:
        overall: the paired comparison; Holm has nothing to adjust with two rows.
        a, b: mean accuracies in [0,1].
        shares_a, shares_b: for each image the share of seeds that are right.
        classes: by class, in order of the class labels; empty without labels.
        alpha: level of the tests.
    """

    column: str
    overall: Comparison
    a: float
    b: float
    shares_a: NDArray[np.float64]
    shares_b: NDArray[np.float64]
    classes: tuple[ClassDifference, ...]
    alpha: float

    def only(self, side: str) -> list[int]:
        """Return the images that every seed of one side ("a" or "b") gets right and every seed of the other wrong."""
        right, wrong = (self.shares_a, self.shares_b) if side == "a" else (self.shares_b, self.shares_a)
        return [int(image) for image in ((right == 1) & (wrong == 0)).nonzero()[0]]

    def to_plain(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        return {
            "column": self.column,
            "a": {"name": self.overall.a, "accuracy": self.a, "only": self.only("a")},
            "b": {"name": self.overall.b, "accuracy": self.b, "only": self.only("b")},
            "difference": self.overall.difference,
            "interval": list(self.overall.interval),
            "p": self.overall.p,
            "winner": self.overall.winner,
            "single": self.overall.single,
            "classes": [vars(difference) for difference in self.classes],
            "images": len(self.shares_a),
        }


def contrast(
    a: tuple[str, Correct],
    b: tuple[str, Correct],
    *,
    column: str,
    rule: Statistics,
    labels: Labels | None = None,
    classes: Sequence[str] = (),
) -> Contrast:
    """Compare two rows, each a name and its outcomes (seeds, images), on the same images.

    By class the same rule as overall holds, p being the largest over pairings of seeds, adjusted over the classes.

    Raises:
        ReportError: for two rows of one name, or labels of other images.
        StatisticsError: if the outcomes are not of the same images.
    """
    if a[0] == b[0]:
        raise ReportError(f"{a[0]} against itself: there is nothing to compare")
    (overall,) = compare(dict((a, b)), alpha=rule.alpha, draws=rule.draws, seed=rule.seed)
    by_class: list[ClassDifference] = []
    if labels is not None:
        if len(labels) != a[1].shape[1]:
            raise ReportError(f"{a[1].shape[1]} outcomes, but {len(labels)} labels of other test images")
        there = [number for number in range(len(classes)) if (labels == number).any()]
        p_values = [max(mcnemar(x, y) for x in a[1][:, labels == n] for y in b[1][:, labels == n]) for n in there]
        by_class = [
            ClassDifference(
                classes[number],
                int((labels == number).sum()),
                float(a[1][:, labels == number].mean()),
                float(b[1][:, labels == number].mean()),
                p,
            )
            for number, p in zip(there, holm(p_values), strict=True)
        ]
    return Contrast(
        column,
        overall,
        float(a[1].mean()),
        float(b[1].mean()),
        a[1].mean(axis=0),
        b[1].mean(axis=0),
        tuple(by_class),
        rule.alpha,
    )


def words(found: Contrast) -> list[str]:
    """Return the verdict and its reasons in a few sentences."""
    overall = found.overall
    low, high = overall.interval
    if overall.winner is None:
        verdict = f"Tied: these outcomes do not tell {overall.a} from {overall.b}."
    else:
        verdict = f"{overall.winner} is better than {overall.b if overall.winner == overall.a else overall.a}."
    lines = [
        verdict,
        (
            f"{overall.a} {found.a:.1%}, {overall.b} {found.b:.1%} under {name_of(found.column)}, "
            f"n = {len(found.shares_a)}: difference {100 * overall.difference:+.1f} points, 95 % interval "
            f"[{100 * low:+.1f}, {100 * high:+.1f}] (bootstrap over seeds and images); exact McNemar "
            f"p = {overall.p:.2g} (largest over pairings of seeds)"
        ),
    ]
    if overall.winner is None:
        lines.append(f"Why not: {'; '.join(_obstacles(found))}.")
    if overall.single:
        lines.append("One side has one seed: this is about these two networks, not these two methods.")
    for side, name in (("a", overall.a), ("b", overall.b)):
        images = found.only(side)
        listed = ", ".join(str(image) for image in images[:SHOWN])
        more = f", and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        lines.append(
            f"{len(images)} images are right under every seed of {name} alone" + (f": {listed}{more}" if images else "")
        )
    if found.classes:
        clear = "; ".join(
            f"{part.name} {100 * (part.a - part.b):+.0f} points (p = {part.p:.2g})"
            for part in found.classes
            if part.p < found.alpha
        )
        lines.append(f"Classes on which they differ for certain (Holm over classes): {clear or 'none'}.")
    return lines


def _obstacles(found: Contrast) -> list[str]:
    """Return which conditions of a win are not met."""
    overall = found.overall
    reasons = []
    if overall.adjusted >= found.alpha:
        reasons.append(f"p = {overall.p:.2g} is not below {found.alpha:g}")
    if not overall.same_sign:
        reasons.append("the sign of the difference is not the same in all pairings of seeds")
    if not overall.single and overall.interval.low <= 0 <= overall.interval.high:
        reasons.append("the interval holds 0")
    return reasons


def draw(found: Contrast, *, layout: FigureLayout = PAPER) -> Figure:
    """Draw the difference by class, and over all images with its interval.

    Raises:
        ReportError: if there are no classes to draw.
    """
    if not found.classes:
        raise ReportError("no labels of the test images here, so no classes to draw")
    ordered = sorted(found.classes, key=lambda part: part.a - part.b)
    if len(ordered) > NAMED:
        ordered = ordered[: NAMED // 2] + ordered[-NAMED // 2 :]
    overall, top = found.overall, len(ordered) + 0.3
    with figure(*layout.listed(len(ordered) + 1, head=1.1), layout.style) as made:
        axes = made.add_subplot()
        for height, part in enumerate(ordered):
            colour = BLUE if part.a >= part.b else ORANGE
            axes.barh(
                height,
                100 * (part.a - part.b),
                color=colour if part.p < found.alpha else "white",
                edgecolor=colour,
                linewidth=scaled(0.8),
            )
        low, high = overall.interval
        axes.plot([100 * low, 100 * high], [top, top], color=INK, linewidth=scaled(1.2))
        axes.plot(100 * overall.difference, top, "D", color=INK, markersize=scaled(4))
        axes.axvline(0, color=GREY, linewidth=scaled(0.8))
        axes.set_yticks([*range(len(ordered)), top], [*(part.name for part in ordered), "all"])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{overall.a} − {overall.b}, {name_of(found.column)} (points)")
        about = f"filled: p < {found.alpha:g} after Holm"
        if len(ordered) < len(found.classes):
            about += f"; {NAMED} of {len(found.classes)} classes"
        axes.set_ylabel("class")
        caption(axes, about, footnote((overall.a, overall.b)), share=0.9)
        return made
