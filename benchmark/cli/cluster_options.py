"""The options of `--executor slurm`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advbench.benchmark.cli.app import Refused

if TYPE_CHECKING:
    from advbench.benchmark.runs.executors.slurm.sizing import Placement

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--profile", type=click.Path(dir_okay=False, path_type=Path), help="Slurm: settings, a TOML file."),
    click.option("--partition", help="Slurm: partition."),
    click.option("--account", help="Slurm: account."),
    click.option("--qos", help="Slurm: quality of service."),
    click.option("--time", metavar="TIME", help="Slurm: limit of each job, such as 90 (minutes) or 8:00:00."),
    click.option("--gpus-per-node", metavar="[TYPE:]N", help="Slurm: GPUs of each job, such as 1 or a100:1."),
    click.option("--cpus-per-task", type=click.IntRange(1), help="Slurm: cores of each job.  [default: 1]"),
    click.option("--mem", metavar="SIZE", help="Slurm: memory of each job, such as 16G."),
    click.option("--constraint", metavar="FEATURES", help="Slurm: features of the nodes."),
    click.option("--parallel", type=click.IntRange(1), help="Slurm: jobs at once.  [default: as Slurm can]"),
    click.option("--shards-per-job", type=click.IntRange(1), help="Slurm: shards a job attacks.  [default: 30 min]"),
    click.option("--retries", type=click.IntRange(0), help="Slurm: tries after a failure.  [default: 2]"),
    click.option(
        "--sbatch", multiple=True, metavar="KEY[=VALUE]", help="Slurm: any other option of sbatch; repeatable."
    ),
    click.option("--setup", multiple=True, metavar="LINE", help="Slurm: a shell line before each job; repeatable."),
    click.option("--detach", is_flag=True, help="Slurm: queue the jobs and end; they go on."),
)
CLUSTER_NAMES = ("executor", *(str(option(lambda: None).__click_params__[0].name) for option in _OPTIONS))  # type: ignore[attr-defined]
"""Names of the parameters that `cluster_options` adds."""


def cluster_options(function: F) -> F:
    """Add `--executor` and the options of Slurm, which go to a parameter `**cluster`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    choice = click.Choice(["local", "slurm"])
    return click.option("--executor", type=choice, default="local", show_default=True, help="Where jobs run.")(function)


def placement(options: Mapping[str, Any]) -> "Placement | None":
    """Return where jobs go; None: this machine.

    Raises:
        Refused: for options of Slurm without it.
        ProfileError: for settings that cannot be understood.
    """
    from advbench.benchmark.runs.executors.slurm.profile import option, profile
    from advbench.benchmark.runs.executors.slurm.sizing import Placement

    told = {name: options[name] for name in CLUSTER_NAMES[1:]}
    given = {name: value for name, value in told.items() if value is not None and value is not False and value != ()}
    if options["executor"] != "slurm":
        if given:
            raise Refused(f"--{next(iter(given)).replace('_', '-')} is for --executor slurm")
        return None
    file, detach = given.pop("profile", None), bool(given.pop("detach", False))
    if "sbatch" in given:
        given["sbatch"] = option(given["sbatch"])
    return Placement(profile(file, given), detach)
