"""Is A better than B? In words, figures and a plot: overall, by class and by image. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advbench.benchmark.protocol import Statistics
from advbench.benchmark.records.statistics import Comparison, Correct, compare, holm, mcnemar
from advbench.reports.drawing.points import footnote, name_of
from advbench.reports.drawing.style import BLUE, GREY, INK, ORANGE, PAPER, Layout, ReportError, caption, figure, scaled
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
    """All that is to be said of A against B under one attack.

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
        one, other = (self.shares_a, self.shares_b) if side == "a" else (self.shares_b, self.shares_a)
        return [int(image) for image in ((one == 1) & (other == 0)).nonzero()[0]]

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "column": self.column,
            "a": {"name": self.overall.a, "accuracy": self.a, "only": self.only("a")},
            "b": {"name": self.overall.b, "accuracy": self.b, "only": self.only("b")},
            "difference": self.overall.difference,
            "interval": list(self.overall.interval),
            "p": self.overall.p,
            "winner": self.overall.winner,
            "single": self.overall.single,
            "classes": [vars(one) for one in self.classes],
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
    """Say the verdict and its reasons in a few lines."""
    one, n = found.overall, len(found.shares_a)
    lines = [_verdict(found)]
    low, high = one.interval
    lines.append(
        f"{one.a} {found.a:.1%}, {one.b} {found.b:.1%} under {name_of(found.column)}, n = {n}: difference "
        f"{100 * one.difference:+.1f} points, 95 % interval [{100 * low:+.1f}, {100 * high:+.1f}] "
        f"(bootstrap over seeds and images); exact McNemar p = {one.p:.2g} (largest over pairings of seeds)"
    )
    if one.winner is None:
        lines.append(f"Why not: {'; '.join(_obstacles(found))}.")
    if one.single:
        lines.append("One side has one seed: this is about these two networks, not these two methods.")
    for side, name in (("a", one.a), ("b", one.b)):
        images = found.only(side)
        listed = ", ".join(str(image) for image in images[:SHOWN])
        more = f", and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        lines.append(
            f"{len(images)} images are right under every seed of {name} alone" + (f": {listed}{more}" if images else "")
        )
    clear = [one for one in found.classes if one.p < found.alpha]
    if found.classes:
        said = "; ".join(f"{one.name} {100 * (one.a - one.b):+.0f} points (p = {one.p:.2g})" for one in clear)
        lines.append(f"Classes on which they differ for certain (Holm over classes): {said or 'none'}.")
    return lines


def _verdict(found: Contrast) -> str:
    one = found.overall
    if one.winner is None:
        return f"Tied: these outcomes do not tell {one.a} from {one.b}."
    loser = one.b if one.winner == one.a else one.a
    return f"{one.winner} is better than {loser}."


def _obstacles(found: Contrast) -> list[str]:
    one = found.overall
    reasons = []
    if one.adjusted >= found.alpha:
        reasons.append(f"p = {one.p:.2g} is not below {found.alpha:g}")
    if not one.same_sign:
        reasons.append("the sign of the difference is not the same in all pairings of seeds")
    if not one.single and one.interval.low <= 0 <= one.interval.high:
        reasons.append("the interval holds 0")
    return reasons


def draw(found: Contrast, *, layout: Layout = PAPER) -> Figure:
    """Draw the difference by class, and over all images with its interval.

    Raises:
        ReportError: if there are no classes to draw.
    """
    if not found.classes:
        raise ReportError("no labels of the test images here, so no classes to draw")
    ordered = sorted(found.classes, key=lambda one: one.a - one.b)
    if len(ordered) > NAMED:
        ordered = ordered[: NAMED // 2] + ordered[-NAMED // 2 :]
    one, top = found.overall, len(ordered) + 0.3
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
        low, high = one.interval
        axes.plot([100 * low, 100 * high], [top, top], color=INK, linewidth=scaled(1.2))
        axes.plot(100 * one.difference, top, "D", color=INK, markersize=scaled(4))
        axes.axvline(0, color=GREY, linewidth=scaled(0.8))
        axes.set_yticks([*range(len(ordered)), top], [*(part.name for part in ordered), "all"])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{one.a} − {one.b}, {name_of(found.column)} (points)")
        about = f"filled: p < {found.alpha:g} after Holm"
        if len(ordered) < len(found.classes):
            about += f"; {NAMED} of {len(found.classes)} classes"
        axes.set_ylabel("class")
        caption(axes, about, footnote((one.a, one.b)), share=0.9)
        return made
