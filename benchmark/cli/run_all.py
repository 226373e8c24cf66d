"""`advbench run-all`: from a suite to boards."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.cluster_options import cluster_options, placement
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import (
    DEFAULT_PROTOCOL,
    FOLDER,
    data_option,
    device_option,
    method_option,
    open_store,
    read_names,
    read_protocol,
    read_seeds,
    store_option,
)
from advbench.benchmark.runs.amounts import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.estimate import Estimate
    from advbench.benchmark.runs.job import Job
    from advbench.benchmark.runs.plan import Suite


@click.command("run-all", short_help="Train, attack and compare: whatever is missing.")
@click.option(
    "--protocol",
    "protocols",
    type=read_protocol,
    metavar="NAME|FILE.toml",
    multiple=True,
    help=f"Repeatable.  [default: {DEFAULT_PROTOCOL}]",
)
@method_option
@click.option("--methods", type=read_names, metavar="LIST", help="Names, all, or default.  [default: default]")
@click.option("--seeds", type=read_seeds, metavar="LIST", help="Such as 0,1,2 or 0-2.  [default: the protocol's]")
@click.option("--set", "settings", multiple=True, metavar="METHOD.KEY=VALUE", help="A hyper-parameter; repeatable.")
@click.option(
    "--suite", type=click.Path(dir_okay=False, path_type=Path), help="Read all of the above from a TOML file."
)
@store_option
@data_option
@device_option
@click.option("--jobs", type=click.IntRange(1), help="Jobs at once.  [default: one a GPU, else one a core]")
@click.option("--out", type=FOLDER, help="Folder for tables and plots.  [default: boards in the store]")
@click.option("--dry-run", is_flag=True, help="List what is to do with estimated time and disk; do nothing.")
@cluster_options
def run_all(
    *,
    protocols: "tuple[Protocol, ...]",
    methods: tuple[str, ...] | None,
    seeds: tuple[int, ...] | None,
    settings: tuple[str, ...],
    suite: Path | None,
    store_root: Path | None,
    data_root: Path | None,
    device: str,
    jobs: int | None,
    out: Path | None,
    dry_run: bool,
    **cluster: Any,  # noqa: ANN401 (options of cli/cluster.py)
) -> None:
    """Train, attack and compare: whatever is missing, and nothing twice.

    Plans what the store does not hold yet (teachers included), does it, and writes the board of each protocol with
    a trade-off plot. Stop at any time; the same command goes on where it stopped.

    With --executor slurm the jobs go to a cluster as arrays (docs/cluster.md). They go on if this command ends; the
    same command attaches to them again, `advbench status` shows them, `advbench cancel` ends them.

    \b
    Examples:
      advbench run-all
      advbench run-all --protocol cifar10-linf-short --methods pgd_at,trades --seeds 0
      advbench run-all --protocol mine.toml --methods trades --set trades.beta=3.0
      advbench run-all --suite paper.toml --jobs 2 --dry-run
      advbench run-all --suite paper.toml --executor slurm --partition gpu --gpus-per-node 1 --time 8:00:00
      advbench run-all --suite paper.toml --executor slurm --profile cluster.toml --parallel 16 --detach
    """
    from advbench.benchmark.cli.board_files import show_and_write
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.cli.read_records import from_store
    from advbench.benchmark.runs.launch import estimates, make_ready, means
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import plan, survey

    where = placement(cluster)
    wanted = read_suite(protocols, methods, seeds, settings, suite)
    store, known = open_store(store_root), catalogue()
    due = plan(wanted, store, known)
    using = means(store, data_root, device, jobs, where)
    if not due:
        click.echo("nothing to do: everything is trained and attacked already")
    if dry_run:
        if due:
            expected, said = estimates(due, using, known)
            _list(due, expected)
            click.echo(said)
        return
    failed = 0
    if due:
        make_ready({job.run.protocol.digest: job.run.protocol for job in due}.values(), data_root)
        outcome = carry_out(due, using, known)
        if outcome is None:
            return
        failed = len(outcome.failed) + len(outcome.blocked)
    for reason in dict.fromkeys(one.reason for one in survey(wanted, store, known) if not one.possible):
        click.echo(f"cannot be done: {reason}", err=True)
    for protocol in wanted.protocols:
        show_and_write(from_store(store, protocol), protocol, out or store.root / "boards")
    if failed:
        raise Failed(f"{failed} jobs failed or were not begun; the same command tries them again")


def read_suite(
    protocols: "tuple[Protocol, ...]",
    methods: tuple[str, ...] | None,
    seeds: tuple[int, ...] | None,
    settings: tuple[str, ...],
    suite: Path | None,
) -> "Suite":
    """Return the suite of a command line: of a file, or of the other options."""
    from advbench.benchmark.protocol import resolve
    from advbench.benchmark.runs import suites

    if suite is not None:
        if protocols or methods or seeds or settings:
            raise Refused("--suite says it all: leave out --protocol, --methods, --seeds and --set, or the suite")
        return suites.from_file(suite)
    return suites.from_words(protocols or (resolve(DEFAULT_PROTOCOL),), methods or ("default",), seeds or (), settings)


def _list(due: "Sequence[Job]", expected: "Mapping[str, Estimate]") -> None:
    """Print one line for each run: what is to do and how long it is expected to take."""
    lines: dict[str, tuple[str, list[str], float, bool]] = {}
    for job in due:
        identity = job.id.partition("-")[0]
        label, parts, seconds, sure = lines.get(identity, (job.run.label, [], 0.0, True))
        parts.append("train" if job.kind == "train" else f"{job.checkpoint} {job.family}")
        one = expected[job.id].seconds
        lines[identity] = (label, parts, seconds + (one or 0.0), sure and one is not None)
    print_table(
        ("run", "to do", "about"),
        [
            (label, _short(parts), duration(seconds) if sure else f"{duration(seconds)} or more")
            for label, parts, seconds, sure in lines.values()
        ],
        right=["about"],
    )


def _short(parts: list[str]) -> str:
    """Join the parts; the attacks on a checkpoint are named together."""
    said = ["train"] if "train" in parts else []
    for checkpoint in ("best", "last"):
        families = [part.partition(" ")[2] for part in parts if part.startswith(f"{checkpoint} ")]
        if families:
            said.append(f"attack {checkpoint} ({', '.join(dict.fromkeys(families))})")
    return ", ".join(said)
