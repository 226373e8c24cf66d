"""Templates and Markdown: everything that becomes HTML passes here and is escaped here."""

import itertools
import re
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from advbench.leaderboards.site.looks import MARKERS

BARE = re.compile(r"(?<![(<{\[`\w\"'=])https?://[^\s|)>`]+(?<![.,;:])")
"""Addresses that stand in running text, which Markdown would not make links."""
STATIC = ("site.css", "site.js", "board.js", "plot.js")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("advbench.leaderboards.site", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["href"] = quote
    environment.globals["markers"] = MARKERS
    return environment


@cache
def _markdown() -> MarkdownIt:
    # "commonmark" with raw HTML off: what looks like a tag in a card is shown as text; links of the kinds javascript:,
    # vbscript:, file: and data: are refused by the library.
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def page(template: str, **context: Any) -> bytes:  # noqa: ANN401 (templates take anything)
    """Render a template to the bytes of a page."""
    return _environment().get_template(template).render(**context).encode()


def markdown(text: str) -> Markup:
    """Return Markdown as HTML without any raw HTML of its author; tables can be scrolled on narrow screens."""
    made = _markdown().render(BARE.sub(r"<\g<0>>", text))
    number = itertools.count(1)
    frame = '<div class="frame" tabindex="0" role="region" aria-label="Table {} of the card"><table>'
    made = re.sub("<table>", lambda _: frame.format(next(number)), made)
    return Markup(made.replace("</table>", "</table></div>"))  # noqa: S704 (the renderer escapes)


def static() -> dict[str, bytes]:
    """Return the style sheet and scripts by name."""
    folder = resources.files("advbench.leaderboards.site") / "static"
    return {name: (folder / name).read_bytes() for name in STATIC}
