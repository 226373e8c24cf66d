"""The published protocols, one TOML file each: `names()` lists them, `load(name)` reads one."""

from advbench.benchmark.protocol import published
from advbench.benchmark.protocol import resolve as load

__all__ = ["load", "names"]


def names() -> tuple[str, ...]:
    """Return the names of all published protocols, with their versions."""
    return tuple(published())
