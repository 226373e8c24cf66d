"""One look for every figure: sizes, fonts that embed, colours that the colour-blind and a grey print tell apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Look = Literal["paper", "slides"]
FORMATS = ("pdf", "png", "svg")
COLUMN = 3.25
"""Inches of one column of a two-column paper."""
PAGE = 6.875
"""Inches of both."""
GREY = "#7a7a7a"
LIGHT = "#d9d9d9"
INK = "#1a1a1a"


class ReportError(ValueError):
    """A figure that cannot be drawn from what was given; the message is one line."""


class Mark(NamedTuple):
    """Colour and marker of a family of methods; the markers alone tell them apart in print."""

    colour: str
    marker: str


FAMILIES = {
    # The colours of Okabe and Ito (2008), with grey and black.
    "standard": Mark(GREY, "x"),
    "adversarial training": Mark("#000000", "o"),
    "regularised": Mark("#0072b2", "s"),
    "weight perturbation": Mark("#d55e00", "^"),
    "two networks": Mark("#009e73", "D"),
    "distillation": Mark("#cc79a7", "v"),
    "label refinement": Mark("#e69f00", "P"),
    "averaging": Mark("#56b4e9", "p"),
    "reweighting": Mark("#8c564b", "h"),
    "single step": Mark("#a6a000", "<"),
}
OTHER = Mark(INK, "*")


def mark(family: str) -> Mark:
    """Return how a family is drawn; one that is not known gets a star."""
    return FAMILIES.get(family, OTHER)


_BASE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "pdf.fonttype": 42,  # TrueType: venues refuse the Type 3 fonts of the default
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "advbench",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "savefig.facecolor": "white",
    "lines.solid_capstyle": "round",
}
_SIZES: dict[Look, dict[str, Any]] = {
    "paper": {
        "font.size": 7.5,
        "axes.labelsize": 8,
        "axes.titlesize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 6.5,
        "lines.linewidth": 1.1,
        "lines.markersize": 5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    },
    "slides": {
        "font.size": 13,
        "axes.labelsize": 14,
        "axes.titlesize": 14,
        "xtick.labelsize": 12,
        "ytick.labelsize": 12,
        "legend.fontsize": 12,
        "lines.linewidth": 2,
        "lines.markersize": 9,
    },
}
_SCALE: dict[Look, float] = {"paper": 1.0, "slides": 2.0}


@contextmanager
def figure(width: float, height: float, look: Look = "paper") -> Iterator[Figure]:
    """Make a figure of a size in inches of paper (slides are twice as large) and keep its style while it is drawn.

    Everything, `save` included, happens inside: matplotlib reads its settings late.

    Raises:
        ReportError: if the look is none.
    """
    if look not in _SIZES:
        raise ReportError(f"no look {look!r}; choose {' or '.join(_SIZES)}")
    with mpl.rc_context({**_BASE, **_SIZES[look]}):
        made = Figure(figsize=(width * _SCALE[look], height * _SCALE[look]), layout="constrained")
        FigureCanvasAgg(made)
        yield made


def save(made: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figure as STEM.pdf, STEM.png and STEM.svg; the same figure gives the same bytes.

    Raises:
        ReportError: if a format is none of these.
    """
    wrong = set(formats) - set(FORMATS)
    if wrong or not formats:
        raise ReportError(f"figures are written as {', '.join(FORMATS)}, not {', '.join(sorted(wrong)) or 'nothing'}")
    stem.parent.mkdir(parents=True, exist_ok=True)
    undated: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "ModDate": None},
        "svg": {"Date": None},
        "png": {"Software": None},
    }
    paths = []
    for name in formats:
        path = stem.with_name(f"{stem.name}.{name}")
        made.savefig(path, format=name, metadata=undated[name])
        paths.append(path)
    return paths


def legend_of_families(made: Figure, axes: Axes, families: Sequence[str]) -> None:
    """Draw the key of the families that occur, in a fixed order, above the axes."""
    ordered = [name for name in FAMILIES if name in families]
    ordered += sorted(set(families) - set(FAMILIES))
    handles = []
    for name in ordered:
        look = mark(name)
        handles += axes.plot([], [], look.marker, color=look.colour, label=name, linestyle="none")
    columns = 3 if made.get_figwidth() < 1.5 * COLUMN else 5
    made.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.2, columnspacing=1.0)
