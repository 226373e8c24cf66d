"""One look for every figure: sizes, fonts that embed, colours that the colour-blind and a grey print tell apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
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
TALL = 8.8
"""Inches of text on a page: no figure of a paper is higher."""
Width = Literal["auto", "single", "double"]
"""Columns of a page that a figure takes; "auto" is what its content needs."""
LETTERS_PER_INCH = 23
"""Of the smallest type, on average."""
GREY = "#6f6f6f"
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
BLUE, ORANGE = "#0072b2", "#d55e00"
FILLS = (("#0072b2", ""), ("#e69f00", "////"), ("#009e73", "...."), ("#f0e442", "xxxx"))
"""Colour and hatch of bars that stand side by side."""
STROKES = (
    (BLUE, "-", "o"),
    (ORANGE, "--", "s"),
    ("#009e73", "-.", "^"),
    ("#cc79a7", (0, (4, 1, 1, 1, 1, 1)), "D"),
    (INK, ":", "v"),
    ("#e69f00", (0, (6, 2)), "P"),
    ("#56b4e9", (0, (2, 1)), "X"),
)
"""Colour, dashes and marker of lines that share axes; each of the three tells them apart alone."""


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
    "hatch.linewidth": 0.5,
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
        "hatch.linewidth": 1,
    },
}
_SCALE: dict[Look, float] = {"paper": 1.0, "slides": 2.0}


def inches(width: Width, natural: float) -> float:
    """Return the width of a figure in inches of paper: what was asked for, else what its content needs.

    Raises:
        ReportError: for another word.
    """
    known = {"auto": natural, "single": COLUMN, "double": PAGE}
    if width not in known:
        raise ReportError(f"no width {width!r}; choose {', '.join(known)}")
    return known[width]


def listed(look: Look, rows: int, *, head: float, width: Width = "auto") -> tuple[float, float]:
    """Return the size in inches of a figure with one line per row: a column on paper, a whole slide on slides.

    Args:
        look: paper or slides.
        rows: number of lines.
        head: inches above and below the lines.
        width: columns it shall take.
    """
    each, least = (0.185, 0.5) if look == "paper" else (0.125, 2.0)
    return inches(width, COLUMN if look == "paper" else PAGE), min(TALL, head + max(each * rows, least))


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


def scaled(points: float) -> float:
    """Return a length in points of paper as it is in the look of the figure that is being drawn."""
    return points * float(mpl.rcParams["font.size"]) / float(_SIZES["paper"]["font.size"])


def caption(axes: Axes, across: float, *lines: str) -> None:
    """Write small grey lines above axes that are nearly as wide as a figure of `across` inches of paper."""
    letters = int(LETTERS_PER_INCH * across)
    text = "\n".join(fill(line, letters, break_long_words=False) for line in lines)
    axes.set_title(text, fontsize="x-small", color=GREY, loc="left")


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
    wide = made.get_figwidth() > 1.5 * COLUMN * (_SCALE["slides"] if scaled(1) > 1 else 1)
    columns = 5 if wide else 3
    made.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.2, columnspacing=1.0)
