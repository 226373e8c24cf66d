"""The static site: records in, one folder of pages out that works from `file://`, without network or server.

Why no plotting or table library: plotly's smallest bundle weighs over a megabyte, Vega-Lite and DataTables do not come
from an installed Python package, and third-party code is not committed here. A table that sorts, a scatter plot with a
brush and a dialog are a few hundred lines of plain JavaScript (`writers/html/static/`, 36 kB): a board of thirty methods with three
seeds weighs 280 kB (36 kB compressed) and needs no updates of anybody's bundle. Pages are Jinja2 templates, escaped
throughout; numbers are the texts of `table.show`, as in every other format.
"""

from advbench.leaderboards.site.build import Site, compose
from advbench.leaderboards.site.folder import SiteError, write
from advbench.leaderboards.site.source import Corrected, Filed, Source, load

__all__ = ["Corrected", "Filed", "Site", "SiteError", "Source", "compose", "load", "write"]
