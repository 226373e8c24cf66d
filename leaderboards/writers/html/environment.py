"""The environment of templates: everything that becomes HTML is escaped here; style and scripts of every page."""

from functools import cache
from importlib import resources
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from advbench.leaderboards.writers.html.column_guide import MARKERS

HERE = "advbench.leaderboards.writers.html"
STATIC = ("site.css", "site.js", "filters.js", "plot.js", "board.js")
"""Style and scripts, in the order in which a page loads them."""


@cache
def environment(package: str = HERE) -> Environment:
    """Return the environment that finds the templates of a package, and those of boards beside them."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in dict.fromkeys((package, HERE))]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters["href"] = quote
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    made.globals |= {"markers": MARKERS}
    return made


def static() -> dict[str, bytes]:
    """Return the style sheet and scripts by name."""
    folder = resources.files(HERE) / "static"
    return {name: (folder / name).read_bytes() for name in STATIC}
