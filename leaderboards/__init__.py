"""Records to tables: one `Table`, many writers. `load_board` gives a pandas frame."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advbench.leaderboards.frame import load_board as load_board

__all__ = ["load_board"]


def __getattr__(name: str) -> object:
    """Import pandas only when a frame is asked for."""
    if name == "load_board":
        from advbench.leaderboards.frame import load_board  # noqa: PLC0415

        return load_board
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
