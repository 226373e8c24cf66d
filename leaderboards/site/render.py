"""Templates and Markdown: everything that becomes HTML passes here and is escaped here."""

import itertools
import re
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup

from advbench.leaderboards.site.column_guide import MARKERS

ADDRESS = re.compile(r"https?://[^\s|)>`\"']+(?<![.,;:])")
STATIC = ("site.css", "site.js", "filters.js", "plot.js", "board.js")


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
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.core.ruler.after("inline", "addresses", _link_addresses)
    return parser


def _link_addresses(state: StateCore) -> None:
    """Make links of the addresses in running text; code and the text of links stay as they are."""
    for block in state.tokens:
        inside, children = False, []
        for token in block.children or []:
            inside = token.type == "link_open" or (inside and token.type != "link_close")
            children += _split(token) if token.type == "text" and not inside else [token]
        block.children = children if block.children is not None else None


def _split(token: Token) -> list[Token]:
    """Return a text token as text, links and text."""
    found, end = [], 0
    for match in ADDRESS.finditer(token.content):
        found += [
            Token("text", "", 0, content=token.content[end : match.start()]),
            Token("link_open", "a", 1, attrs={"href": match.group()}),
            Token("text", "", 0, content=match.group()),
            Token("link_close", "a", -1),
        ]
        end = match.end()
    return [*found, Token("text", "", 0, content=token.content[end:])]


def page(template: str, **context: Any) -> bytes:  # noqa: ANN401 (templates take anything)
    """Render a template to the bytes of a page."""
    return _environment().get_template(template).render(**context).encode()


def markdown(text: str) -> Markup:
    """Return Markdown as HTML without any raw HTML of its author; tables and code scroll on narrow screens."""
    made = _markdown().render(text)
    number = itertools.count(1)
    frame = '<div class="frame" tabindex="0" role="region" aria-label="Table {} of the card"><table>'
    made = re.sub("<table>", lambda _: frame.format(next(number)), made)
    made = made.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')
    return Markup(made)  # noqa: S704 (the renderer escapes)


def static() -> dict[str, bytes]:
    """Return the style sheet and scripts by name."""
    folder = resources.files("advbench.leaderboards.site") / "static"
    return {name: (folder / name).read_bytes() for name in STATIC}
