"""`advbench tune`: choose a method's settings on validation images, and show the choice beside the default."""

from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.cluster_options import cluster_options
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import SEEDS, Where, flag, method_option, protocol_or_default, work_options

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.tuning import Tuning
    from advbench.benchmark.runs.executors.slurm.sizing import Placement


@click.command(short_help="Tune a method on validation images: the tuned division.")
@click.argument("method")
@protocol_or_default
@click.option(
    "--budget", type=click.IntRange(2), default=6, show_default=True, help="Settings to try, the default among them."
)
@click.option("--tuning-seeds", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each setting.")
@click.option("--seeds", type=SEEDS, help="Of the row.  [default: the protocol's]")
@method_option
@work_options
@flag("--dry-run", help="List the settings; train nothing.")
@cluster_options
def tune(
    *,
    method: str,
    protocol: "Protocol",
    budget: int,
    tuning_seeds: int,
    seeds: tuple[int, ...] | None,
    where: Where,
    dry_run: bool,
    placement: "Placement | None",
) -> None:
    """Tune one METHOD: try settings, choose one on validation images, train and attack it on the board's seeds.

    Tried are the default and quasi-random draws of learning rate, weight decay and the knobs that the method's card
    declares; the protocol's digest decides the draws. Trials have seeds of their own and never see a test image. The
    row stands in the tuned division, with the default, the gain and the cost of the trials. Stop at any time; the same
    command goes on where it stopped.

    \b
    Examples:
      advbench tune trades --dry-run
      advbench tune trades --protocol cifar10-linf-short
      advbench tune mart --protocol cifar10-linf --budget 12 --tuning-seeds 2
      advbench tune trades --protocol cifar10-linf --executor slurm --profile cluster.toml
    """
    from advbench.benchmark import discovery
    from advbench.benchmark.cli.board_files import show_board
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.cli.read_records import RecordSource
    from advbench.benchmark.recipe import Budget, in_words
    from advbench.benchmark.runs import tuning
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import MethodRequest, Suite, plan

    store, known, name = where.store, catalogue(), discovery.load(method).card.name
    trials = tuning.trials(protocol, name, known, Budget(budget, tuning_seeds))
    if dry_run:
        for request in trials.methods:
            click.echo(in_words(request.hyperparameters, request.recipe))
        return

    def done(suite: Suite) -> bool:
        """Do what is missing of a suite; False if a cluster does it later."""
        due = plan(suite, store, known)
        outcome = carry_out(due, where.means(placement), known) if due else None
        if outcome is not None and not outcome.clean:
            raise Failed("jobs failed; the same command tries them again")
        if due and outcome is None:
            click.echo("what follows depends on these jobs: once they are done, the same command goes on")
        return outcome is not None or not due

    if not (done(trials) and done(Suite((protocol,), (MethodRequest(name),), seeds or ()))):
        return
    found = tuning.choose(trials, store, known)
    if found is None:
        raise Failed("a trial is not trained; the same command goes on")
    _tell(found)
    row = tuning.tuned(protocol, name, found, seeds or ())
    tuning.write(found, row, store, known)
    if done(row):
        records, _ = RecordSource(protocol, store_root=where.store_root).load()
        show_board([record for record in records if record.method.name == name], protocol)


def _tell(found: "Tuning") -> None:
    """Print every trial with its validation accuracy."""
    from advbench.benchmark.recipe import in_words

    rows = [
        (in_words(trial.hyperparameters, trial.recipe), f"{trial.score:.1%}", "chosen" if trial is found.best else "")
        for trial in found.trials
    ]
    print_table(("settings", "validation", ""), rows, right=["validation"])
