"""The command line, `advbench …`: the only place that knows everything and puts it together."""

from advbench.benchmark.cli.app import main

__all__ = ["main"]
