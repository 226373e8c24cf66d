"""Templates and Markdown: everything that becomes HTML passes here and is escaped here."""

import itertools
import re
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from advbench.leaderboards.writers.html.environment import environment


@cache
def _markdown() -> MarkdownIt:
    # "commonmark" with raw HTML off: what looks like a tag in a card is shown as text; links of the kinds javascript:,
    # vbscript:, file: and data: are refused by the library. Only whole addresses become links, no bare names of hosts.
    parser = MarkdownIt("commonmark", {"html": False, "linkify": True}).enable(["table", "linkify"])
    if parser.linkify is not None:
        parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    return parser


def page(template: str, **context: Any) -> bytes:  # noqa: ANN401 (templates take anything)
    """Render a template to the bytes of a page."""
    return environment("advbench.leaderboards.site").get_template(template).render(**context).encode()


def markdown(text: str) -> Markup:
    """Return Markdown as HTML without any raw HTML of its author; tables and code scroll on narrow screens."""
    made = _markdown().render(text)
    number = itertools.count(1)
    frame = '<div class="frame" tabindex="0" role="region" aria-label="Table {} of the card"><table>'
    made = re.sub("<table>", lambda _: frame.format(next(number)), made)
    made = made.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')
    return Markup(made)  # noqa: S704 (the renderer escapes)
