"""`advbench job`: do the one job that a file describes, as every executor does."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.options import FILE, POSITIVE, Where, where_options
from advbench.benchmark.files import read_json

if TYPE_CHECKING:
    from advbench.benchmark.runs.job import Job

BUSY = 75
"""Exit code where others hold the work (EX_TEMPFAIL)."""


@click.command(short_help="Do the one job that a file describes.")
@click.argument("file", type=FILE)
@where_options
@click.option("--threads", type=POSITIVE, help="Threads of torch.  [default: $OMP_NUM_THREADS, else all cores]")
@click.option("--part", type=click.IntRange(0), help="Which job of a batch file of Slurm's; the file says how.")
def job(*, file: Path, where: Where, threads: int | None, part: int | None) -> None:
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
        from advbench.benchmark.runs.executors.slurm.node import run_part

        raise click.exceptions.Exit(run_part(file, part))
    from advbench.benchmark.runs.environment import usable_cores
    from advbench.benchmark.runs.perform import WorkError, perform

    work = _read(file)
    given = os.environ.get("OMP_NUM_THREADS", "")
    count = threads or (int(given) if given.isdecimal() and int(given) else usable_cores())
    device = str(where.torch_device())
    try:
        done = perform(work, where.store.root, data_root=where.data_root, device=device, threads=count)
    except WorkError as error:
        raise Failed(f"{work.label}: {error}") from error
    if done == "busy":
        click.echo(f"{work.label}: another process holds the work; try again later", err=True)
        raise click.exceptions.Exit(BUSY)
    click.echo(f"{work.label}: done")


def _read(file: Path) -> "Job":
    """Read a job file."""
    from advbench.benchmark.runs.job import Job

    try:
        return Job.from_plain(read_json(file, Refused))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{file}: not a job ({type(error).__name__}: {error})") from None
