"""`advbench train`: train one method without attacking it."""

from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.cluster_options import cluster_options
from advbench.benchmark.cli.options import METHOD, SEEDS, Where, method_option, protocol_or_default, work_options

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.executors.slurm.sizing import Placement


@click.command(short_help="Train a method without attacking it.")
@click.argument("method", type=METHOD)
@protocol_or_default
@click.option("--seeds", type=SEEDS, default="0", show_default=True, help="Such as 0,1,2 or 0-2.")
@method_option
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A hyper-parameter; repeatable.")
@work_options
@cluster_options
def train(
    *,
    method: str,
    protocol: "Protocol",
    seeds: tuple[int, ...],
    settings: tuple[str, ...],
    where: Where,
    placement: "Placement | None",
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
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import plan

    suite = suites.from_words((protocol,), (method,), seeds, [f"{method}.{setting}" for setting in settings])
    known = catalogue()
    due = [job for job in plan(suite, where.store, known) if job.kind == "train"]
    if not due:
        click.echo("nothing to do: trained already")
    else:
        outcome = carry_out(due, where.means(placement), known)
        if outcome is None:
            return
        if not outcome.clean:
            raise Failed("training failed; the same command tries again")
    lost = False
    for folder in where.store.folders():
        spec = folder.spec
        if spec.method == suite.methods[0].name and spec.protocol.digest == protocol.digest and spec.seed in seeds:
            trained = folder.trained()
            at = None if trained is None else trained.training.diverged
            if trained is not None and at is not None:
                best = trained.checkpoints.get("best")
                left = "nothing" if best is None else f"the best network before, of epoch {best.epoch}"
                click.echo(f"{spec.label}: DIVERGED at epoch {at.epoch}: loss not finite; it left {left}", err=True)
                lost = lost or best is None
            click.echo(f"{spec.label}: {folder.path}")
    if lost:
        raise Failed("a run diverged before its first checkpoint: lower its learning rate, or mend its loss")
