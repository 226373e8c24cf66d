"""Comparison of two methods, overall, by class and by image: numbers, sentences and a figure. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.rank_sets import POOLED_DF, interval, rank
from advbench.benchmark.records.statistics import Correct, Interval, holm, mcnemar
from advbench.reports.drawing.colours import BLUE, GREY, INK, ORANGE
from advbench.reports.drawing.points import footnote, name_of
from advbench.reports.drawing.style import PAPER, FigureLayout, ReportError, caption, figure, scaled
from advbench.reports.perclass import NAMED, Labels

SHOWN = 10
"""Images that are listed."""
LEVELS = {
    "methods": "t test over seeds and images, with the board's noise over seeds",
    "networks": "exact McNemar test of one network each",
}
"""What is compared → the test; without enough seeds there is none."""


@dataclass(frozen=True)
class Test:
    """The test of A against B, of this pair alone; a board holds all its claims at the level together.

    Attributes:
        level: "methods" or "networks", see LEVELS; "" where there is no test.
        difference: mean accuracy of A minus that of B, in [-1, 1].
        interval: its 95 % interval; None without a test.
        p: two-sided; None without a test.
    """

    level: str
    difference: float
    interval: Interval | None = None
    p: float | None = None


@dataclass(frozen=True)
class ClassDifference:
    """A against B on the images of one class; accuracies in [0,1], `p` adjusted by Holm over the classes, or None."""

    name: str
    images: int
    a: float
    b: float
    p: float | None


@dataclass(frozen=True)
class Contrast:
    """Outcomes of A against those of B under one attack.

    Attributes:
        names: of A and B.
        overall: the test over all images.
        a, b: mean accuracies in [0,1].
        shares_a, shares_b: for each image the share of seeds that are right.
        classes: by class, in order of the class labels; empty without labels.
        alpha: level of the tests.
    """

    column: str
    names: tuple[str, str]
    overall: Test
    a: float
    b: float
    shares_a: NDArray[np.float64]
    shares_b: NDArray[np.float64]
    classes: tuple[ClassDifference, ...]
    alpha: float

    @property
    def winner(self) -> str | None:
        """The better one, if the test tells them apart."""
        if not _clear(self.overall.p, self.alpha):
            return None
        return self.names[0] if self.overall.difference > 0 else self.names[1]

    def only(self, side: str) -> list[int]:
        """Return the images that every seed of one side ("a" or "b") gets right and every seed of the other wrong."""
        right, wrong = (self.shares_a, self.shares_b) if side == "a" else (self.shares_b, self.shares_a)
        return [int(image) for image in ((right == 1) & (wrong == 0)).nonzero()[0]]

    def to_plain(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        return {
            "column": self.column,
            "a": {"name": self.names[0], "accuracy": self.a, "only": self.only("a")},
            "b": {"name": self.names[1], "accuracy": self.b, "only": self.only("b")},
            **asdict(self.overall),
            "winner": self.winner,
            "classes": [vars(difference) for difference in self.classes],
            "images": len(self.shares_a),
        }


def contrast(
    a: tuple[str, Correct],
    b: tuple[str, Correct],
    *,
    column: str,
    others: Mapping[str, Correct],
    protocol: Protocol,
    labels: Labels | None = None,
    classes: Sequence[str] = (),
) -> Contrast:
    """Compare two rows, each a name and its outcomes (seeds, images), on the same images; by class as overall.

    Args:
        a: the first.
        b: the second.
        column: the attack that the outcomes are of.
        others: the rows of their board under the same attack; their noise over seeds is the test's.
        protocol: asks for seeds, and sets the level of the tests.
        labels: of the test images.
        classes: names of the classes.

    Raises:
        ReportError: for two rows of one name, or labels of other images.
        StatisticsError: if the outcomes are not of the same images.
    """
    if a[0] == b[0]:
        raise ReportError(f"{a[0]} against itself: there is nothing to compare")
    rows = {**others, a[0]: a[1], b[0]: b[1]}
    by_class: list[ClassDifference] = []
    if labels is not None:
        if len(labels) != a[1].shape[1]:
            raise ReportError(f"{a[1].shape[1]} outcomes, but {len(labels)} labels of other test images")
        there = [number for number in range(len(classes)) if (labels == number).any()]
        p_values = [
            _test({name: row[:, labels == number] for name, row in rows.items()}, a[0], b[0], len(protocol.seeds)).p
            for number in there
        ]
        adjusted = holm([1.0 if p is None else p for p in p_values])
        by_class = [
            ClassDifference(
                classes[number],
                int((labels == number).sum()),
                float(a[1][:, labels == number].mean()),
                float(b[1][:, labels == number].mean()),
                None if p is None else held,
            )
            for number, p, held in zip(there, p_values, adjusted, strict=True)
        ]
    return Contrast(
        column,
        (a[0], b[0]),
        _test(rows, a[0], b[0], len(protocol.seeds)),
        float(a[1].mean()),
        float(b[1].mean()),
        a[1].mean(axis=0),
        b[1].mean(axis=0),
        tuple(by_class),
        protocol.statistics.alpha,
    )


def _test(rows: Mapping[str, Correct], a: str, b: str, seeds: int) -> Test:
    """Test one row against another: single networks by their images alone, methods by the noise of their board."""
    first, second = rows[a], rows[b]
    images = first.shape[1]
    difference = float(first.mean() - second.mean())
    if len(first) == len(second) == 1:
        p = mcnemar(first[0], second[0])
        half = 1.96 * float(np.std(first[0].astype(float) - second[0])) / images**0.5
        return Test("networks", difference, Interval(difference - half, difference + half), p)
    if images < 2 or min(len(first), len(second)) < seeds:
        return Test("", difference)
    ranking = rank(rows, seeds=seeds, alpha=0.05)
    if not ranking.ranks_methods:
        return Test("", difference)
    forward, backward = ranking.pair(a, b)
    return Test("methods", difference, interval(forward, backward), min(1.0, 2 * min(forward.p, backward.p)))


def words(found: Contrast) -> list[str]:
    """Return the verdict and its reasons in a few sentences."""
    overall, (a, b) = found.overall, found.names
    if not overall.level:
        verdict = (
            f"No verdict: to tell methods apart both need the protocol's seeds, and their board {POOLED_DF} pooled "
            "degrees of freedom of the noise over seeds, such as four rows of three seeds."
        )
    elif found.winner is None:
        verdict = f"Not told apart: these outcomes do not tell {a} from {b}."
    else:
        verdict = f"{found.winner} is better than {b if found.winner == a else a}."
    figures = (
        f"{a} {found.a:.1%}, {b} {found.b:.1%} under {name_of(found.column)}, "
        f"n = {len(found.shares_a)}: difference {100 * overall.difference:+.1f} points"
    )
    if overall.interval is not None:
        low, high = overall.interval
        figures += (
            f", 95 % interval [{100 * low:+.1f}, {100 * high:+.1f}], p = {overall.p:.2g} ({LEVELS[overall.level]})"
        )
    lines = [verdict, figures]
    if overall.level == "networks":
        lines.append("This is about these two networks, not these two methods.")
    for side, name in (("a", a), ("b", b)):
        images = found.only(side)
        listed = ", ".join(str(image) for image in images[:SHOWN])
        more = f", and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        lines.append(
            f"{len(images)} images are right under every seed of {name} alone" + (f": {listed}{more}" if images else "")
        )
    if found.classes and overall.level:
        clear = "; ".join(
            f"{part.name} {100 * (part.a - part.b):+.0f} points (p = {part.p:.2g})"
            for part in found.classes
            if _clear(part.p, found.alpha)
        )
        lines.append(f"Classes on which they differ for certain (Holm over classes): {clear or 'none'}.")
    return lines


def _clear(p: float | None, alpha: float) -> bool:
    return p is not None and p < alpha


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
    ends = [100 * end for end in overall.interval or ()]
    with figure(*layout.listed(len(ordered) + 1, head=1.1), layout) as made:
        axes = made.add_subplot()
        for height, part in enumerate(ordered):
            colour = BLUE if part.a >= part.b else ORANGE
            axes.barh(
                height,
                100 * (part.a - part.b),
                color=colour if _clear(part.p, found.alpha) else "white",
                edgecolor=colour,
                linewidth=scaled(0.8),
            )
        axes.plot(ends, [top] * len(ends), color=INK, linewidth=scaled(1.2))
        axes.plot(100 * overall.difference, top, "D", color=INK, markersize=scaled(4))
        axes.axvline(0, color=GREY, linewidth=scaled(0.8))
        axes.set_yticks([*range(len(ordered)), top], [*(part.name for part in ordered), "all"])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{found.names[0]} − {found.names[1]}, {name_of(found.column)} (points)")
        about = f"filled: p < {found.alpha:g} after Holm" if overall.level else "too few seeds for a test"
        if len(ordered) < len(found.classes):
            about += f"; {NAMED} of {len(found.classes)} classes"
        axes.set_ylabel("class")
        caption(axes, about, footnote(found.names), share=0.9)
        return made
