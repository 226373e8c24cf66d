"""The options of `--executor slurm`."""

from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import FILE, POSITIVE, flag, gather

if TYPE_CHECKING:
    from advbench.benchmark.runs.executors.slurm.sizing import Placement


def read_placement(*, executor: str, detach: bool, **settings: Any) -> "Placement | None":  # noqa: ANN401 (options)
    """Return where jobs go; None: this machine.

    Raises:
        Refused: for options of Slurm without it.
        ProfileError: for settings that cannot be understood.
    """
    from advbench.benchmark.runs.executors.slurm.profile import option, profile
    from advbench.benchmark.runs.executors.slurm.sizing import Placement

    given = {name: value for name, value in settings.items() if value not in {None, ()}}
    if executor != "slurm":
        if given or detach:
            raise Refused(f"--{next(iter(given), 'detach').replace('_', '-')} is for --executor slurm")
        return None
    file = given.pop("profile", None)
    if "sbatch" in given:
        given["sbatch"] = option(given["sbatch"])
    return Placement(profile(file, given), detach)


cluster_options = gather(
    "placement",
    read_placement,
    click.option(
        "--executor",
        type=click.Choice(["local", "slurm"]),
        default="local",
        show_default=True,
        help="Where jobs run.",
    ),
    click.option("--profile", type=FILE, help="Slurm: settings, a TOML file."),
    click.option("--partition", help="Slurm: partition."),
    click.option("--account", help="Slurm: account."),
    click.option("--qos", help="Slurm: quality of service."),
    click.option("--time", metavar="TIME", help="Slurm: limit of each job, such as 90 (minutes) or 8:00:00."),
    click.option("--gpus-per-node", metavar="[TYPE:]N", help="Slurm: GPUs of each job, such as 1 or a100:1."),
    click.option("--cpus-per-task", type=POSITIVE, help="Slurm: cores of each job.  [default: 1]"),
    click.option("--mem", metavar="SIZE", help="Slurm: memory of each job, such as 16G."),
    click.option("--constraint", metavar="FEATURES", help="Slurm: features of the nodes."),
    click.option("--parallel", type=POSITIVE, help="Slurm: jobs at once.  [default: as Slurm can]"),
    click.option("--shards-per-job", type=POSITIVE, help="Slurm: shards a job attacks.  [default: 30 min]"),
    click.option("--retries", type=click.IntRange(0), help="Slurm: tries after a failure.  [default: 2]"),
    click.option("--sbatch", multiple=True, metavar="KEY[=VALUE]", help="Slurm: any other sbatch option; repeatable."),
    click.option("--setup", multiple=True, metavar="LINE", help="Slurm: a shell line before each job; repeatable."),
    flag("--detach", help="Slurm: queue the jobs and end; they go on."),
)
"""The command gets them as `placement`; None: jobs run on this machine."""
