"""`advbench check`: everything that an adapter must pass before it is merged."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.options import DEFAULT_PROTOCOL, FILE, Where, flag, protocol_option, work_options

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.review.finding import Finding


@click.command(short_help="Hold an adapter to everything that a merge needs.")
@click.argument("targets", nargs=-1, required=True, metavar="METHOD|FILE...")
@flag("--quick", help="Leave out types and the run with the complete attacks (seconds).")
@protocol_option(default=DEFAULT_PROTOCOL, show_default=True, help="Of the run with the complete attacks.")
@work_options
@click.option("--markdown", type=FILE, help="Also write the report to this file.")
def check(*, targets: tuple[str, ...], quick: bool, protocol: "Protocol", where: Where, markdown: Path | None) -> None:
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
    outcomes = _run(sound, protocol, where) if sound else {}
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


def _run(names: list[str], protocol: "Protocol", where: Where) -> "dict[str, list[Finding]]":
    """Train and attack methods and baselines with the first seed; return the findings on each method."""
    from advbench.benchmark import discovery
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.cli.read_records import RecordSource
    from advbench.benchmark.review.adapter import baseline_bands
    from advbench.benchmark.review.adapter.retrain import forget_changed
    from advbench.benchmark.runs import suites
    from advbench.benchmark.runs.perform import catalogue, identify
    from advbench.benchmark.runs.plan import plan, runs

    store, known = where.store, catalogue()
    references = baseline_bands.baselines(protocol.name, official=protocol.official)
    suite = suites.from_words((protocol,), dict.fromkeys([*references, *names]), protocol.seeds[:1], ())
    checked = {name: identify(discovery.make(name)).source_sha256 for name in (*references, *names)}
    for label in forget_changed((store.folder(run.spec) for run in runs(suite, known)), checked):
        click.echo(f"{label}: its adapter was changed since it was trained: training anew", err=True)
    due = plan(suite, store, known)
    if due:
        carry_out(due, where.means(), known)
    found, _ = RecordSource(protocol, store_root=where.store_root).load()
    by_name = {record.method.name: record for record in found if record.seed == protocol.seeds[0] and record.plain}
    first = baseline_bands.judge_baselines(list(by_name.values()), protocol.name, official=protocol.official)
    return {name: [*first, *baseline_bands.judge(by_name.get(name))] for name in names}
