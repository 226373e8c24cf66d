"""Print docs/commands.md: its own introduction, then the help of every command as the terminal shows it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from advbench.benchmark.cli import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
FIRST = "\n## `advbench run-all`\n"
"""Heading of the first command: the page is written by hand up to here."""


def described(command: click.Command, words: str, parent: click.Context) -> Iterator[str]:
    """Yield the sections of a command and of its sub-commands."""
    context = click.Context(command, info_name=words.rsplit(maxsplit=1)[-1], parent=parent, terminal_width=100)
    yield f"\n{'#' * len(words.split())} `{words}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from described(command.commands[name], f"{words} {name}", context)


if __name__ == "__main__":
    top = click.Context(main, info_name="advbench", help_option_names=["-h", "--help"])
    sys.stdout.write(PAGE.read_text(encoding="utf-8").partition(FIRST)[0])
    for name in main.list_commands(top):
        command = main.get_command(top, name)
        if command is not None:
            sys.stdout.writelines(described(command, f"advbench {name}", top))
