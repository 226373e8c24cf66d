"""Colours, markers, hatches and dashes that the colour-blind and a grey print tell apart."""

from typing import NamedTuple

GREY, INK = "#6f6f6f", "#1a1a1a"
BLUE, ORANGE = "#0072b2", "#d55e00"


class Mark(NamedTuple):
    """Colour and marker of a family of methods; the markers alone tell them apart in print."""

    colour: str
    marker: str


FAMILY_COLOURS = {
    # The colours of Okabe and Ito (2008), with grey, black and two more: they have fewer than there are families.
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
