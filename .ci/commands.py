"""Write the documentation of all commands from what they say of themselves; its output is docs/commands.md."""

import inspect
import sys
from collections.abc import Iterator

import click

from advbench.benchmark.cli import main
from advbench.benchmark.cli.app import COMMANDS

HEAD = """# Commands

`advbench --help` lists the commands, `advbench COMMAND --help` explains one. Every error is one line; `--debug`,
anywhere on the line, shows the traceback behind it, `-v` what the library logs.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | a job failed (or `status` shows one that did, or `doctor` misses what every run needs) |
| 2 | the input was refused; nothing was done |
| 75 | `job` only: others hold the work, try again later |
| 130 | interrupted; the same command goes on where it stopped |

Runs go to `runs/`, `$ADVBENCH_STORE` or `--store`; data are looked for in `$ADVBENCH_DATA` or `--data`, by default in
the user's cache folder.

## Suites

`run-all` and `status` take a suite as options or as a file. Every `[[method]]` is a row of its own; protocol files are
looked for beside the suite file; without `seeds` each protocol's own are used.

```toml
protocols = ["cifar10-linf-short", "mine.toml"]
seeds = [0, 1, 2]

[[method]]
name = "pgd_at"

[[method]]
name = "trades"
set = { beta = 3.0 }
```
"""


def described(words: str, command: click.Command, context: click.Context, level: int = 2) -> Iterator[str]:
    """Yield the lines about a command: prose, examples, options, sub-commands."""
    prose, _, examples = inspect.cleandoc(command.help or "").partition("\b\nExample")
    yield from ("", f"{'#' * level} `advbench {words}`", "", prose.replace("\b\n", "").strip())
    if examples:
        yield from ("", "```", inspect.cleandoc(examples.partition("\n")[2]), "```")
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        yield from ("", "| option | |", "|---|---|", *(row(option, context) for option in options))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from described(f"{words} {name}", inner, context, level + 1)


def row(option: click.Option, context: click.Context) -> str:
    """Return the table row of an option."""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    text = " ".join((option.help or "").split())
    if option.show_default:
        text = f"{text} [default: {option.default}]".strip()
    cells = (cell.replace("|", "\\|") for cell in (names + value, text))
    return f"| {' | '.join(cells)} |"


def commands() -> str:
    """Return the whole text."""
    context = click.Context(main)
    lines = [HEAD.rstrip()]
    for name in COMMANDS:
        command = main.get_command(context, name)
        if command is not None:
            lines += described(name, command, context)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(commands())
