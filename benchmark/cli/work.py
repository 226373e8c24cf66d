"""`advbench work`: one of any number of workers on one store."""

import time
from datetime import datetime, timedelta

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.options import SuiteWords, Value, Where, method_option, suite_options, work_options


def _clock(text: str) -> float:
    """Read a time of this machine, the next "07:30" or "2026-11-28 07:30"; return it on the monotonic clock."""
    now = datetime.now().astimezone()
    try:
        if len(text) <= len("07:30"):
            then = datetime.combine(now.date(), datetime.strptime(text, "%H:%M").time(), now.tzinfo)  # noqa: DTZ007 (local)
            then += timedelta(days=then <= now)
        else:
            then = datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise ValueError(f"{text!r}: write a time as 07:30 or 2026-11-28T07:30") from None
    if then <= now:
        raise ValueError(f"{text!r} is past")
    return time.monotonic() + (then - now).total_seconds()


@click.command(short_help="Be one of many workers on one store.")
@suite_options
@method_option
@work_options
@click.option("--max-hours", type=click.FloatRange(0, min_open=True), help="Stop after so many hours.")
@click.option("--until", type=Value("TIME", _clock), help="Stop at a time of this machine, such as 07:30.")
def work(*, asked: SuiteWords, where: Where, max_hours: float | None, until: float | None) -> None:
    """Do what is missing in a store, beside any number of others that do the same, until nothing is left.

    Start it as often as you like, on any machines that share the folder of the store and by whatever starts programs
    there: a shell loop, Kubernetes, LSF, a second GPU box. Each worker plans the suite, claims a job by a lock that
    a dead holder gives back, does it, and plans again; it joins a running `advbench run-all`. A job that failed here
    is not tried again by this worker. When time is up, training stops at its last epoch and attacks at their last
    shard; the same command goes on there.

    \b
    Examples:
      advbench work --protocol cifar10-linf-short --methods all --store /shared/runs
      advbench work --suite paper.toml --device cuda:1 --max-hours 7.5
      advbench work --suite paper.toml --jobs 1 --until 07:30
    """
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import plan

    ends = [until, None if max_hours is None else time.monotonic() + 3600 * max_hours]
    end = min((each for each in ends if each is not None), default=None)
    suite, known, using = asked.read(), catalogue(), where.means()
    done, lost = 0, dict[str, str]()
    while due := [job for job in plan(suite, where.store, known) if job.id not in lost]:
        if end is not None and time.monotonic() >= end:
            click.echo(f"time is up: {done} jobs done, {len(due)} left; the same command goes on")
            return
        outcome = carry_out(due, using, known, end)
        assert outcome is not None  # noqa: S101 (nothing was handed to a cluster)
        done += len(outcome.done)
        lost |= {job.id: reason for job, reason in (*outcome.failed, *outcome.blocked)}
    if lost:
        raise Failed(f"nothing is left but {len(lost)} jobs that failed or need what failed; start again to retry them")
    click.echo(f"nothing is left: {done} jobs done here")
