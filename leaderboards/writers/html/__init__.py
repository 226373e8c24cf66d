"""Write boards as one self-contained HTML page: the site's pages of these boards with style and scripts inside."""

from collections.abc import Sequence

from markupsafe import Markup

from advbench.leaderboards.table import Table
from advbench.leaderboards.writers.html.environment import environment, static
from advbench.leaderboards.writers.html.view import view


def write(
    tables: Table | Sequence[Table], *, decimals: int | None = None, title: str = "Adversarial robustness leaderboard"
) -> str:
    """Return one page with a board, or several below each other; it needs no network, and every name is escaped.

    Args:
        tables: the boards, or selections of them.
        decimals: places of accuracies; by default as many as the test set supports.
        title: of the page.
    """
    boards = [part for table in ([tables] if isinstance(tables, Table) else tables) for part in table.whole]
    files = static()
    return (
        environment()
        .get_template("standalone.html")
        .render(
            title=title,
            style=Markup(files.pop("site.css").decode()),  # noqa: S704 (a file of this package)
            script=Markup(b"\n".join(files.values()).decode()),  # noqa: S704 (the same)
            boards=[
                view(table, decimals=decimals, suffix=f"-{place}" if place > 1 else "")
                for place, table in enumerate(boards, start=1)
            ],
        )
    )
