"""The defenses, one file each: `names()` lists them, `load(name)` gives a class, `make(name, settings)` an instance."""

from advbench.benchmark.discovery import load, make, names

__all__ = ["load", "make", "names"]
