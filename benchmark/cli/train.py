"""`advbench train`: train one method without attacking it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.cluster_options import cluster_options, placement
from advbench.benchmark.cli.options import (
    DEFAULT_PROTOCOL,
    data_option,
    device_option,
    method_option,
    open_store,
    read_protocol,
    read_seeds,
    store_option,
)

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol


@click.command(short_help="Train a method without attacking it.")
@click.argument("method")
@click.option(
    "--protocol",
    type=read_protocol,
    metavar="NAME|FILE.toml",
    default=DEFAULT_PROTOCOL,
    show_default=True,
    help="Name or TOML file.",
)
@click.option("--seeds", type=read_seeds, metavar="LIST", default="0", show_default=True, help="Such as 0,1,2 or 0-2.")
@method_option
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A hyper-parameter; repeatable.")
@store_option
@data_option
@device_option
@click.option("--jobs", type=click.IntRange(1), help="Jobs at once.  [default: one a GPU, else one a core]")
@cluster_options
def train(
    *,
    method: str,
    protocol: "Protocol",
    seeds: tuple[int, ...],
    settings: tuple[str, ...],
    store_root: Path | None,
    data_root: Path | None,
    device: str,
    jobs: int | None,
    **cluster: Any,  # noqa: ANN401 (options of cli/cluster.py)
) -> None:
    """Train one METHOD, and the teachers it needs, without attacking it.

    \b
    Examples:
      advbench train pgd_at
      advbench train trades --set beta=3.0 --protocol cifar10-linf-short --seeds 0-2
      advbench train trades --protocol cifar10-linf --executor slurm --profile cluster.toml
    """
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.runs import suites
    from advbench.benchmark.runs.launch import make_ready, means
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import plan

    where = placement(cluster)
    named = [f"{method}.{setting}" for setting in settings]
    wanted = suites.from_words((protocol,), (method,), seeds, named)
    store, known = open_store(store_root), catalogue()
    due = [job for job in plan(wanted, store, known) if job.kind == "train"]
    if not due:
        click.echo("nothing to do: trained already")
    else:
        make_ready((protocol,), data_root)
        outcome = carry_out(due, means(store, data_root, device, jobs, where), known)
        if outcome is None:
            return
        if not outcome.clean:
            raise Failed("training failed; the same command tries again")
    for folder in store.folders():
        if (
            folder.spec.method == method
            and folder.spec.protocol.digest == protocol.digest
            and folder.spec.seed in seeds
        ):
            click.echo(f"{folder.spec.label}: {folder.path}")
