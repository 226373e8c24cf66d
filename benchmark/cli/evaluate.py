"""`advbench evaluate`: attack a trained run, or any network under any threat."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.any_network import attack_off_board, leaves_board, off_board_options
from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.cluster_options import CLUSTER_NAMES, cluster_options, placement
from advbench.benchmark.cli.options import (
    data_option,
    device_option,
    open_store,
    store_option,
)

if TYPE_CHECKING:
    from advbench.benchmark.runs.job import Job
    from advbench.benchmark.runs.run_folder import RunFolder


@click.command(short_help="Attack a trained run, or any network.")
@click.argument("run")
@click.option(
    "--checkpoint",
    type=click.Choice(["best", "last", "both"]),
    default="both",
    show_default=True,
    help="Which checkpoint.",
)
@click.option(
    "--attack",
    "families",
    type=click.Choice(["clean", "pgd", "cw", "examination", "autoattack"]),
    multiple=True,
    help="Repeatable.  [default: all]",
)
@store_option
@data_option
@device_option
@click.option("--jobs", type=click.IntRange(1), help="Jobs at once.  [default: one a GPU, else one a core]")
@cluster_options
@off_board_options
def evaluate(
    *,
    run: str,
    checkpoint: str,
    families: tuple[str, ...],
    store_root: Path | None,
    data_root: Path | None,
    device: str,
    jobs: int | None,
    **more: Any,  # noqa: ANN401 (options of cli/cluster.py and cli/offboard.py)
) -> None:
    """Attack a trained RUN: its identity as `advbench status` shows it, or the beginning of it.

    Off the board RUN may also be a file of weights (with --architecture), zoo:NAME of RobustBench (with --weights),
    module:function or FILE.py:function of your own, which returns a network, or a program: exported:FILE for
    torch.export, scripted:FILE for TorchScript; and a run may be attacked in another norm, at other radii or on a part
    of the test set. No code in a file of weights is run; a program is opened only when its prefix is written.

    \b
    Examples:
      advbench evaluate 3fa9
      advbench evaluate 3fa9 --checkpoint best --attack autoattack
      advbench evaluate 3fa9 --executor slurm --partition gpu --gpus-per-node 1 --time 4:00:00
      advbench evaluate net.safetensors --architecture preactresnet18 --protocol cifar10-linf --subset 1000
      advbench evaluate exported:net.pt2 --protocol cifar10-linf --subset 1000
      advbench evaluate mine.py:defense --protocol cifar10-linf --threat l2 --eps 0.5 --eot 20 --out mine.json
    """
    where = placement(more)
    off_board = {name: value for name, value in more.items() if name not in CLUSTER_NAMES}
    if leaves_board(run, off_board):
        if where is not None:
            raise Refused("--executor slurm is for runs of a store as they are on the board")
        attack_off_board(
            run,
            checkpoint=checkpoint,
            families=families,
            store_root=store_root,
            data_root=data_root,
            device=device,
            **off_board,
        )
        return
    families = tuple(dict.fromkeys((*families, *(off_board["attacks"] or ()))))
    from advbench.benchmark.cli.board_files import show_board
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.cli.read_records import from_store
    from advbench.benchmark.records.schema import CHECKPOINTS, FAMILIES
    from advbench.benchmark.runs.launch import make_ready, means
    from advbench.benchmark.runs.perform import catalogue

    store = open_store(store_root)
    folder = store.find(run)
    wanted = CHECKPOINTS if checkpoint == "both" else (checkpoint,)
    due = _unattacked(folder, wanted, families or FAMILIES)
    if not due:
        click.echo("nothing to do: attacked already")
    else:
        make_ready((folder.spec.protocol,), data_root)
        outcome = carry_out(due, means(store, data_root, device, jobs, where), catalogue())
        if outcome is None:
            return
        if not outcome.clean:
            raise Failed("attacks failed; the same command tries again")
    records = [record for record in from_store(store, folder.spec.protocol) if record.run == folder.id]
    show_board(records, folder.spec.protocol)
    click.echo(f"record: {folder.record_path}")


def _unattacked(folder: "RunFolder", checkpoints: tuple[str, ...], families: tuple[str, ...]) -> "list[Job]":
    """Return the jobs of the shards that are missing.

    Raises:
        Refused: if the run is not trained.
    """
    from advbench.benchmark.runs.job import Job

    trained = folder.trained()
    if trained is None:
        raise Refused(f"{folder.spec.label} is not trained; `advbench train {folder.spec.method}` trains it")
    every = range(folder.spec.protocol.shards(trained.data.test))
    due: list[Job] = []
    seen: set[Path] = set()
    for checkpoint in trained.checkpoints:
        for family in reversed(families):
            journal = folder.journal(checkpoint, family, trained)
            if checkpoint not in checkpoints or journal in seen:
                continue
            seen.add(journal)  # where `last` is `best` to the bit one attack serves both
            finished = folder.finished(checkpoint, family, trained)
            missing = tuple(shard for shard in every if shard not in finished)
            if missing:
                due.append(Job("evaluate", folder.spec, checkpoint, family, missing))  # type: ignore[arg-type]
    return due
