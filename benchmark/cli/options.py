"""Options that several commands share, and how their values are read."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.store import Store

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_PROTOCOL = "digits-linf"
FOLDER = click.Path(file_okay=False, path_type=Path)
RECORDS = "Records folder to read instead of the store, such as leaderboards/records."


def read_protocol(value: "str | Protocol") -> "Protocol":
    """Return a published protocol by name, or one from a TOML file.

    Raises:
        click.BadParameter: if there is neither.
    """
    from advbench.benchmark.protocol import Protocol, ProtocolError, resolve

    if isinstance(value, Protocol):
        return value
    try:
        return resolve(value)
    except ProtocolError as error:
        raise click.BadParameter(str(error)) from None


def read_seeds(value: str | tuple[int, ...]) -> tuple[int, ...]:
    """Return seeds from "0,1,2" or "0-2".

    Raises:
        click.BadParameter: for anything else.
    """
    if isinstance(value, tuple):
        return value
    seeds: list[int] = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise click.BadParameter(f"{value!r}: write seeds as 0,1,2 or 0-2")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise click.BadParameter(f"{value!r}: seeds must be different, and the smaller end of a range first")
    return tuple(seeds)


def read_names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return names separated by commas.

    Raises:
        click.BadParameter: if one is empty or given twice.
    """
    if isinstance(value, tuple):
        return value
    names = tuple(name.strip() for name in value.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise click.BadParameter(f"{value!r}: write different names separated by commas")
    return names


def open_store(root: Path | None) -> "Store":
    """Return the store at `root`, `$ADVBENCH_STORE`, or `runs`."""
    from advbench.benchmark.runs.store import Store, default_root

    return Store(root or default_root())


def store_option(function: F) -> F:
    """Add `--store`."""
    text = "Folder of runs.  [default: $ADVBENCH_STORE, or runs]"
    return click.option("--store", "store_root", type=FOLDER, help=text)(function)


def records_options(function: F) -> F:
    """Add `--protocol`, `--records` and `--store`: which records are read, all of them if nothing is said."""
    only = "Only this one.  [default: every protocol that has records]"
    source = click.option("--records", type=click.Path(path_type=Path), help=RECORDS)(store_option(function))
    return click.option("--protocol", type=read_protocol, metavar="NAME|FILE.toml", help=only)(source)


def data_option(function: F) -> F:
    """Add `--data`."""
    text = "Folder of data sets.  [default: $ADVBENCH_DATA, or the user's cache folder]"
    return click.option("--data", "data_root", type=FOLDER, help=text)(function)


def device_option(function: F) -> F:
    """Add `--device`."""
    text = "Where to compute: auto, cpu, cuda, cuda:1.  [default: auto]"
    return click.option("--device", default="auto", metavar="NAME", help=text)(function)


def _adopt(_ctx: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> None:
    """Take in methods from files outside the repository, before any method is looked up."""
    if files:
        from advbench.benchmark import discovery

        for file in files:
            discovery.adopt(file)


def method_option(function: F) -> F:
    """Add `--method`, which makes methods outside the repository known."""
    return click.option(
        "--method",
        "method_files",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.py",
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_adopt,
        help="A file outside the repository whose methods may be named; marked unofficial. Repeatable.",
    )(function)
