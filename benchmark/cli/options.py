"""Options that several commands share, how their values are read, and the small objects that carry them."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from advbench.benchmark.cli.app import Refused

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.executors.slurm.sizing import Placement
    from advbench.benchmark.runs.launch import Means
    from advbench.benchmark.runs.plan import Suite
    from advbench.benchmark.runs.store import Store

Command = Callable[..., Any]
Option = Callable[[Command], Command]
"""What `click.option` returns."""
DEFAULT_PROTOCOL = "digits-linf"


class Value(click.ParamType[Any]):
    """A value that a function reads from its text; help shows it as `metavar`, and shells complete it from `known`."""

    def __init__(
        self, metavar: str, read: Callable[[str], object], known: Callable[[], Iterable[str]] = tuple[str]
    ) -> None:
        self.name, self.read, self.known = metavar, read, known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 (click's signature)
        """Return the known names that begin as the last of a list does."""
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{name}") for name in self.known() if name.startswith(last)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 (click's signature)
        """Return what help shows."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 (click's)
        """Read a text; a default that was read already stays."""
        if not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _protocol(text: str) -> "Protocol":
    from advbench.benchmark.protocol import resolve

    return resolve(text)


def _seeds(text: str) -> tuple[int, ...]:
    """Read "0,1,2" or "0-2"."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{text!r}: write seeds as 0,1,2 or 0-2")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"{text!r}: seeds must be different, and the smaller end of a range first")
    return tuple(seeds)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"{text!r}: write different names separated by commas")
    return names


def _known_protocols() -> Iterable[str]:
    from advbench.benchmark.protocol import published

    return published()


def _known_methods() -> list[str]:
    """Return the names on the cards of methods/, from their text: importing them would take seconds at every key."""
    files = sorted(Path(__file__).parents[2].joinpath("methods").glob("*.py"))
    found = (re.findall(r'\bname="(\w+)"', file.read_text(encoding="utf-8")) for file in files)
    return sorted(name for names in found for name in names)


def _known_runs() -> list[str]:
    return [folder.id for folder in open_store(None).folders()]


PROTOCOL = Value("NAME|FILE.toml", _protocol, _known_protocols)
SEEDS = Value("LIST", _seeds)
NAMES = Value("LIST", _names)
METHOD = Value("METHOD", str, _known_methods)
METHODS = Value("LIST", _names, _known_methods)
RUN = Value("RUN", str, _known_runs)


class OutPath(click.Path):
    """A path that will be written: whether it can be is found out before the work that it is for."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 (click's)
        """Refuse a path below what is no folder, or none that may be written into."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        if not os.access(there, os.W_OK) or (there != path.absolute() and not there.is_dir()):
            self.fail(f"{path}: cannot be written: {there} is no folder that may be written into", param, ctx)
        return path


FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
OUT_FOLDER = OutPath(file_okay=False, path_type=Path)
OUT_FILE = OutPath(dir_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(1)
FAMILIES = ("clean", "pgd", "cw", "examination", "autoattack")
"""Those of `records.schema`, which is slower to import than help may be."""
COLUMN = click.Choice(["clean", "pgd20", "pgd100", "cw", "autoattack", "worst"])

flag = partial(click.option, is_flag=True)
store_folder = click.option(
    "--store", "store_root", type=FOLDER, help="Folder of runs.  [default: $ADVBENCH_STORE, or runs]"
)
data_option = click.option(
    "--data",
    "data_root",
    type=FOLDER,
    help="Folder of data sets.  [default: $ADVBENCH_DATA, or the user's cache folder]",
)
device = click.option(
    "--device", default="auto", metavar="NAME", help="Where to compute: auto, cpu, cuda, cuda:1.  [default: auto]"
)
jobs = click.option("--jobs", type=POSITIVE, help="Jobs at once.  [default: one per GPU, else one per core]")
protocol_option = partial(click.option, "--protocol", type=PROTOCOL)
protocol_or_default = protocol_option(default=DEFAULT_PROTOCOL, show_default=True, help="Published name or TOML file.")
methods_option = partial(click.option, "--methods", type=METHODS)
checkpoint_option = partial(
    click.option,
    "--checkpoint",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Which checkpoint.",
)
attacks_option = click.option(
    "--attack", "families", type=click.Choice(FAMILIES), multiple=True, help="Repeatable.  [default: all]"
)
either_checkpoint = checkpoint_option(type=click.Choice(["best", "last", "both"]), default="both")
column_option = click.option(
    "--column", type=COLUMN, default="autoattack", show_default=True, help="Accuracy under which attack."
)
subset_option = click.option("--subset", type=click.IntRange(3), help="Only the first N test images (marked).")


def out_folder(default: str) -> Option:
    """Return the option `--out` with a folder to write into."""
    return click.option(
        "--out", type=OUT_FOLDER, default=Path(default), show_default=True, help="Folder to write into."
    )


def _parameters(command: Command) -> list[click.Parameter]:
    """Return the options that were added to a function so far, where click keeps them."""
    return getattr(command, "__click_params__", [])


def gather(parameter: str, kind: Callable[..., object], *options: Option) -> Option:
    """Return a decorator that adds options to a command, which gets them as one object.

    Args:
        parameter: name under which the command takes the object.
        kind: makes the object of the options' values, by name.
        options: what `click.option` or `click.argument` return.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def gathered(**values: Any) -> Any:  # noqa: ANN401 (whatever the command returns)
            own = {name: values.pop(name) for name in names}
            return command(**{parameter: kind(**own)}, **values)

        before = len(_parameters(gathered))
        for option in reversed(options):
            option(gathered)
        names = [str(added.name) for added in reversed(_parameters(gathered)[before:])]
        return gathered

    return decorate


def open_store(store_root: Path | None) -> "Store":
    """Return the store at `store_root`, `$ADVBENCH_STORE`, or `runs`."""
    from advbench.benchmark.runs.store import Store, default_root

    return Store(store_root or default_root())


@dataclass(frozen=True)
class Where:
    """Where a command works: folders of runs and data, the device as named by the user, how many jobs at once."""

    store_root: Path | None = None
    data_root: Path | None = None
    device: str = "auto"
    jobs: int | None = None

    @property
    def store(self) -> "Store":
        """The store of runs."""
        return open_store(self.store_root)

    def torch_device(self) -> "torch.device":
        """Return the device.

        Raises:
            LaunchError: if there is no such device here.
        """
        from advbench.benchmark.runs.launch import choose_device

        return choose_device(self.device)

    def means(self, placement: "Placement | None" = None) -> "Means":
        """Share out this machine, or what jobs ask of the cluster.

        Raises:
            LaunchError: if there is no such device here, or `--jobs` is given for a cluster.
        """
        from advbench.benchmark.runs.launch import means

        return means(self.store, self.data_root, self.device, self.jobs, placement)


store_option = gather("store", open_store, store_folder)
where_options = gather("where", Where, store_folder, data_option, device)
work_options = gather("where", Where, store_folder, data_option, device, jobs)


@dataclass(frozen=True)
class SuiteWords:
    """A suite as the command line gives it: a file, or protocols, methods, seeds and hyper-parameters."""

    protocols: "tuple[Protocol, ...]"
    methods: tuple[str, ...] | None
    seeds: tuple[int, ...] | None
    settings: tuple[str, ...]
    own_recipe: bool
    suite: Path | None

    @property
    def words(self) -> bool:
        """Whether the command line names any suite without a file."""
        return bool(self.protocols or self.methods or self.seeds or self.settings or self.own_recipe)

    @property
    def given(self) -> bool:
        """Whether the command line names any suite."""
        return bool(self.suite or self.words)

    def read(self) -> "Suite":
        """Return the suite.

        Raises:
            Refused: if there is a file and anything beside it.
        """
        from advbench.benchmark.protocol import resolve
        from advbench.benchmark.runs import suites

        if self.suite is None:
            protocols = self.protocols or (resolve(DEFAULT_PROTOCOL),)
            methods, seeds = self.methods or ("default",), self.seeds or ()
            return suites.from_words(protocols, methods, seeds, self.settings, own_recipe=self.own_recipe)
        if self.words:
            options = "--protocol, --methods, --seeds, --set and --own-recipe"
            raise Refused(f"--suite says it all: leave out {options}, or the suite")
        return suites.from_file(self.suite)


suite_options = gather(
    "asked",
    SuiteWords,
    protocol_option("protocols", multiple=True, help=f"Repeatable.  [default: {DEFAULT_PROTOCOL}]"),
    methods_option(help="Names, all, or default.  [default: default]"),
    click.option("--seeds", type=SEEDS, help="Such as 0,1,2 or 0-2.  [default: the protocol's]"),
    click.option("--set", "settings", multiple=True, metavar="METHOD.KEY=VALUE", help="A hyper-parameter; repeatable."),
    flag("--own-recipe", help="Train as each card says the authors do: own division."),
    click.option("--suite", type=FILE, help="Read all of the above from a TOML file."),
)


def _adopt(_ctx: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> None:
    """Take in methods from files outside the repository, before any method is looked up."""
    if files:
        from advbench.benchmark import discovery

        for file in files:
            discovery.adopt(file)


method_option = click.option(
    "--method",
    "method_files",
    type=FILE,
    metavar="FILE.py",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_adopt,
    help="A file outside the repository whose methods may be named; marked unofficial. Repeatable.",
)
