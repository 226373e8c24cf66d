"""Write boards as LaTeX tables that go into a paper unchanged: pdflatex, booktabs or plain rules, three venues."""

from advbench.leaderboards.writers.latex.floats import write
from advbench.leaderboards.writers.latex.layout import VENUES, Layout, Venue

__all__ = ["VENUES", "Layout", "Venue", "write"]
