"""`advbench train`, `evaluate` and `job`: single steps of what `run-all` does."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.cluster import CLUSTER_NAMES, cluster_options, placement
from advbench.benchmark.cli.offboard import attack_off_board, leaves_board, off_board_options
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
    from advbench.benchmark.runs.job import Job
    from advbench.benchmark.runs.run_folder import RunFolder

BUSY = 75
"""Exit code of `job` where others hold the work (EX_TEMPFAIL)."""


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
    from advbench.benchmark.cli import requests
    from advbench.benchmark.cli.carrying import carry_out, make_ready, means
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import plan

    where = placement(cluster)
    named = [f"{method}.{setting}" for setting in settings]
    wanted = requests.from_words((protocol,), (method,), seeds, named)
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

    Off the board RUN may also be a file of weights (with --architecture), a torch.export or TorchScript file, zoo:NAME
    of RobustBench (with --weights), or module:function or FILE.py:function of your own, which returns a network; and
    a run may be attacked in another norm, at other radii or on a part of the test set.

    \b
    Examples:
      advbench evaluate 3fa9
      advbench evaluate 3fa9 --checkpoint best --attack autoattack
      advbench evaluate 3fa9 --executor slurm --partition gpu --gpus-per-node 1 --time 4:00:00
      advbench evaluate net.safetensors --architecture preactresnet18 --protocol cifar10-linf --subset 1000
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
    from advbench.benchmark.cli.carrying import carry_out, make_ready, means
    from advbench.benchmark.cli.writing import from_store, show_board
    from advbench.benchmark.records.schema import CHECKPOINTS, FAMILIES
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


@click.command(short_help="Do the one job that a file describes.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@store_option
@data_option
@device_option
@click.option(
    "--threads", type=click.IntRange(1), help="Threads of torch.  [default: $OMP_NUM_THREADS, else all cores]"
)
@click.option("--part", type=click.IntRange(0), help="Which job of a batch file of Slurm's; the file says how.")
def job(
    *,
    file: Path,
    store_root: Path | None,
    data_root: Path | None,
    device: str,
    threads: int | None,
    part: int | None,
) -> None:
    """Do the one job that FILE describes: what every executor runs.

    FILE is JSON as an executor writes it. It may be killed and started again at any time. Exit code 75: others
    hold the work; try again later. With --part, FILE holds many jobs, with store, data, device and threads, and
    the job puts itself back into Slurm's queue where it stops early.

    \b
    Examples:
      advbench job job.json --store runs
      advbench job runs/.slurm/20260102-030405-6a7b8c/batch.json --part 17
    """
    if part is not None:
        from advbench.benchmark.runs.executors.slurm.node import attend

        raise click.exceptions.Exit(attend(file, part))
    from advbench.benchmark.cli.carrying import choose_device
    from advbench.benchmark.runs.environment import usable_cores
    from advbench.benchmark.runs.perform import WorkError, perform

    work = read_job(file)
    given = os.environ.get("OMP_NUM_THREADS", "")
    count = threads or (int(given) if given.isdecimal() and int(given) else usable_cores())
    store = open_store(store_root)
    where = str(choose_device(device))
    try:
        done = perform(work, store.root, data_root=data_root, device=where, threads=count)
    except WorkError as error:
        raise Failed(str(error)) from error
    if done == "busy":
        click.echo(f"{work.label}: others are at it; try again later", err=True)
        raise click.exceptions.Exit(BUSY)
    click.echo(f"{work.label}: done")


def read_job(file: Path) -> "Job":
    """Read a job file.

    Raises:
        Refused: if it cannot be read or is no job.
    """
    from advbench.benchmark.runs.job import Job

    try:
        return Job.from_plain(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise Refused(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{file}: not a job ({type(error).__name__}: {error})") from None
