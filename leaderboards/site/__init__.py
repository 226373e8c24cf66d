"""The static site: records in, one folder of pages out that works from `file://`, without network or server.

Why no plotting or table library: plotly's smallest bundle weighs over a megabyte, Vega-Lite and DataTables do not come
from an installed Python package, and third-party code is not committed here. A table that sorts, a scatter plot with a
brush and a dialog are a few hundred lines of plain JavaScript (`leaderboards/writers/html/static`). The page of a board
is `leaderboards/writers/html`; here are the pages around it, and the folder they are written to.
"""

from advbench.leaderboards.site.build import Site, compose
from advbench.leaderboards.site.folder import SiteError, write
from advbench.leaderboards.site.source import Corrected, Filed, Source, load

__all__ = ["Corrected", "Filed", "Site", "SiteError", "Source", "compose", "load", "write"]
