"""`advbench check`: everything that an adapter must pass before it is merged."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.options import (
    DEFAULT_PROTOCOL,
    data_option,
    device_option,
    open_store,
    read_protocol,
    store_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.review.finding import Finding
    from advbench.benchmark.runs.run_folder import RunFolder
    from advbench.benchmark.runs.store import Store


@click.command(short_help="Hold an adapter to everything that a merge needs.")
@click.argument("targets", nargs=-1, required=True, metavar="METHOD|FILE...")
@click.option("--quick", is_flag=True, help="Leave out types and the run with the complete attacks (seconds).")
@click.option(
    "--protocol",
    type=read_protocol,
    metavar="NAME|FILE.toml",
    default=DEFAULT_PROTOCOL,
    show_default=True,
    help="Of the run with the complete attacks.",
)
@store_option
@data_option
@device_option
@click.option("--jobs", type=click.IntRange(1), help="Jobs at once.  [default: one a GPU, else one a core]")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write the report to this file.")
def check(
    *,
    targets: tuple[str, ...],
    quick: bool,
    protocol: "Protocol",
    store_root: Path | None,
    data_root: Path | None,
    device: str,
    jobs: int | None,
    markdown: Path | None,
) -> None:
    """Check adapters: source, card, contract, learning, style and types, then a run with the complete attacks.

    The source is read before any of it runs. The run also trains the baselines that must come out in their bands
    first; it is kept in the store, so `run-all` does not repeat it, and done anew when the adapter was changed since.
    What fails stands in the way (exit code 1); what is suspicious, such as an AutoAttack far below PGD, is for a
    maintainer to look at: the board withholds such a row's rank. A FILE may lie anywhere.

    \b
    Examples:
      advbench check trades
      advbench check methods/mine.py --quick
      advbench check ~/idea/mine.py --markdown report.md
    """
    from dataclasses import replace

    from advbench.benchmark.review import finding
    from advbench.benchmark.review.adapter import suite

    reports = [report for word in targets for report in suite.examine(suite.locate(word), tooling=not quick)]
    sound = [] if quick else [report.method for report in reports if not report.failed]
    outcomes = _run(sound, protocol, open_store(store_root), data_root, device=device, jobs=jobs) if sound else {}
    why = "left out by --quick" if quick else "the checks above failed"
    rest = [finding.Finding("run with the complete attacks", "note", "", f"not run: {why}")]
    reports = [replace(report, findings=(*report.findings, *outcomes.get(report.method, rest))) for report in reports]
    for report in reports:
        click.echo(report)
    if markdown is not None:
        markdown.write_text(finding.markdown(reports), encoding="utf-8")
        click.echo(f"wrote {markdown}")
    failed = [report.method for report in reports if report.failed]
    if failed:
        raise Failed(f"{', '.join(failed)}: not yet; each failure above says what to do")


def _run(
    names: list[str],
    protocol: "Protocol",
    store: "Store",
    data_root: Path | None,
    *,
    device: str,
    jobs: int | None,
) -> "dict[str, list[Finding]]":
    """Train and attack methods and baselines with the first seed; return the findings on each method."""
    from advbench.benchmark import discovery
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.cli.read_records import from_store
    from advbench.benchmark.review.adapter import baseline_bands
    from advbench.benchmark.runs import suites
    from advbench.benchmark.runs.launch import make_ready, means
    from advbench.benchmark.runs.perform import catalogue, identify
    from advbench.benchmark.runs.plan import plan, runs

    references = baseline_bands.baselines(protocol.name, official=protocol.official)
    wanted = suites.from_words((protocol,), dict.fromkeys([*references, *names]), protocol.seeds[:1], ())
    known = catalogue()
    checked = {name: identify(discovery.make(name)).source_sha256 for name in (*references, *names)}
    for label in renew((store.folder(run.spec) for run in runs(wanted, known)), checked):
        click.echo(f"{label}: its adapter was changed since it was trained: training anew", err=True)
    due = plan(wanted, store, known)
    if due:
        make_ready((protocol,), data_root)
        carry_out(due, means(store, data_root, device, jobs), known)
    seed = protocol.seeds[0]
    records = [one for one in from_store(store, protocol) if one.seed == seed and not one.method.changed]
    first = baseline_bands.judge_baselines(records, protocol.name, official=protocol.official)
    by_name = {record.method.name: record for record in records}
    return {name: [*first, *baseline_bands.judge(by_name.get(name))] for name in names}


def renew(folders: "Iterable[RunFolder]", sources: "Mapping[str, str | None]") -> list[str]:
    """Forget the training of runs that another version of their adapter made; return their labels.

    Args:
        folders: runs, some of which may be there.
        sources: sha256 of the adapter's file, for the methods that are checked.
    """
    renewed = []
    for folder in folders:
        trained = folder.trained()
        name = folder.spec.method
        if trained is None or name not in sources or trained.method.source_sha256 == sources[name]:
            continue
        with folder.claim("train") as free:
            if free:
                folder.forget_training()
                folder.retire("train")
                renewed.append(folder.spec.label)
    return renewed
