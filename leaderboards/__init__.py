"""Records to tables: one `Table`, many writers. `load_frame` and its like give pandas frames."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advbench.leaderboards.frame import load_frame as load_frame
    from advbench.leaderboards.frame import load_history as load_history
    from advbench.leaderboards.frame import load_published as load_published

__all__ = ["load_frame", "load_history", "load_published"]


def __getattr__(name: str) -> object:
    """Import pandas only when a frame is asked for."""
    if name in __all__:
        from advbench.leaderboards import frame  # noqa: PLC0415 (pandas)

        return getattr(frame, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
