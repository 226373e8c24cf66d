"""The look of every figure: sizes of pages and type, fonts that embed, captions, keys, and how it is saved."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from textwrap import fill
from typing import IO, Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names

from advbench.reports.drawing.colours import FAMILY_COLOURS, GREY, INK, OTHER

Style = Literal["paper", "slides"]
Width = Literal["auto", "single", "double"]
PLAIN = "DejaVu Sans"
"""The font that comes with matplotlib; it stands in for the signs that another one lacks."""
FORMATS = ("pdf", "png", "svg")
COLUMN, PAGE, TALL = 3.25, 6.875, 8.8
"""Inches: one column of a two-column paper, both of them, and the height of a page's text."""


class ReportError(ValueError):
    """A figure that cannot be drawn from what was given; the message is one line."""


_BASE: dict[str, Any] = {
    "text.parse_math": False,  # names of methods and classes are the users': "$" is a dollar sign
    "pdf.fonttype": 42,  # TrueType: venues refuse the Type 3 fonts of the default
    "ps.fonttype": 42,
    "svg.fonttype": "none",
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
_SIZES: dict[Style, dict[str, Any]] = {
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
_SCALE: dict[Style, float] = {"paper": 1.0, "slides": 2.0}


@dataclass(frozen=True)
class FigureLayout:
    """The page a figure is for.

    Attributes:
        style: sizes of type and figure, those of a paper or of slides.
        width: columns it takes; "auto" is what its content needs.
        font: a family that is installed, such as that of the paper.

    Raises:
        ReportError: for a style or width that is none of these, or a font that is not installed.
    """

    style: Style = "paper"
    width: Width = "auto"
    font: str = PLAIN

    def __post_init__(self) -> None:
        for name, value, known in (
            ("style", self.style, ("paper", "slides")),
            ("width", self.width, ("auto", "single", "double")),
        ):
            if value not in known:
                raise ReportError(f"no {name} {value!r}; choose {', '.join(known)}")
        if self.font != PLAIN and self.font not in (installed := get_font_names()):
            near = difflib.get_close_matches(self.font, installed, 3, 0.4)
            raise ReportError(f"no font {self.font!r} is installed; near it: {', '.join(near) or PLAIN}")

    @property
    def paper(self) -> bool:
        """Whether it is a page of a paper."""
        return self.style == "paper"

    def inches(self, natural: float) -> float:
        """Return the width of a figure in inches of paper, `natural` being what its content needs."""
        return {"auto": natural, "single": COLUMN, "double": PAGE}[self.width]

    def listed(self, rows: int, *, head: float) -> tuple[float, float]:
        """Return the size in inches of a figure with one line a row, and `head` inches above and below them.

        By default it takes one column of a paper, or a whole slide.
        """
        each, least = (0.185, 0.5) if self.paper else (0.125, 2.0)
        return self.inches(COLUMN if self.paper else PAGE), head + max(each * rows, least)


PAPER = FigureLayout()


class StyledFigure(Figure):
    """A figure that keeps its settings: matplotlib reads many of them late, when it draws and saves."""

    settings: dict[str, Any]

    def draw(self, renderer: RendererBase) -> None:
        """Draw under the figure's own settings."""
        with mpl.rc_context(self.settings):
            super().draw(renderer)

    def savefig(self, fname: str | PathLike[Any] | IO[Any], **options: Any) -> None:  # noqa: ANN401 (handed on)
        """Save as `Figure.savefig` does, under the figure's own settings."""
        with mpl.rc_context(self.settings):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook, whether or not pyplot was imported."""
        picture = BytesIO()
        self.savefig(picture, format="png", dpi=150)
        return picture.getvalue()


@contextmanager
def figure(width: float, height: float, layout: FigureLayout = PAPER) -> Iterator[StyledFigure]:
    """Make a figure of a size in inches of paper (slides are twice as large), no higher than a page.

    What is drawn on it inside the context has its style.
    """
    settings = {**_BASE, **_SIZES[layout.style], "font.family": list(dict.fromkeys((layout.font, PLAIN)))}
    with mpl.rc_context(settings):
        size = (width * _SCALE[layout.style], min(TALL, height) * _SCALE[layout.style])
        made = StyledFigure(figsize=size, layout="constrained")
        made.settings = settings
        FigureCanvasAgg(made)
        yield made


def save(made: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure as STEM.pdf, STEM.png and STEM.svg and return the paths; the same figure gives the same bytes.

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
    paths = [stem.with_name(f"{stem.name}.{name}") for name in formats]
    for path, name in zip(paths, formats, strict=True):
        made.savefig(path, format=name, metadata=undated[name])
    return paths


def scaled(points: float) -> float:
    """Return a length in points of paper as it is in the style of the figure that is being drawn."""
    return points * float(mpl.rcParams["font.size"]) / float(_SIZES["paper"]["font.size"])


def caption(axes: Axes, *lines: str, share: float = 1.0) -> None:
    """Write small grey lines above axes that take a `share` of the width of their figure; empty ones are left out."""
    letter = 0.6 * 0.694 * float(mpl.rcParams["font.size"])  # points; x-small is 0.694 of the usual size
    letters = int(share * axes.figure.bbox.width * 72 / axes.figure.dpi / letter)
    text = "\n".join(fill(line, letters, break_long_words=False) for line in lines if line)
    axes.set_title(text, fontsize="x-small", color=GREY, loc="left")


def legend_of_families(made: Figure, axes: Axes, families: Sequence[str]) -> None:
    """Draw the key of the families that occur, in a fixed order, above the axes."""
    ordered = [name for name in FAMILY_COLOURS if name in families]
    ordered += sorted(set(families) - set(FAMILY_COLOURS))
    handles = []
    for name in ordered:
        colour, marker = FAMILY_COLOURS.get(name, OTHER)
        handles += axes.plot([], [], marker, color=colour, label=name, linestyle="none")
    wide = made.get_figwidth() > 0.65 * float(mpl.rcParams["font.size"])
    made.legend(handles=handles, loc="outside upper left", ncols=5 if wide else 3, handletextpad=0.2, columnspacing=1.0)
