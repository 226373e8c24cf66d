"""`advbench validate`: can a bundle or a record be believed?"""

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.options import FOLDER, PATH, Where, flag, gather, where_options
from advbench.benchmark.cli.read_records import RecordSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from advbench.benchmark.records.schema import Record
    from advbench.benchmark.review.finding import Finding
    from advbench.benchmark.review.spot_check import Sample
    from advbench.benchmark.runs.store import Store

METHODS = Path("methods")


@dataclass(frozen=True)
class PublishedFolders:
    """The published records and tables, and whether those changed since a revision are to be checked."""

    changed: bool
    base: str
    records: Path
    tables: Path


@click.command(short_help="Say whether a bundle or a record can be believed.")
@click.argument("paths", nargs=-1, type=PATH)
@gather(
    "published",
    PublishedFolders,
    flag("--changed", help="Every published record that git says was changed since --base."),
    click.option("--base", default="origin/main", show_default=True, help="With --changed: the revision before."),
    click.option(
        "--records",
        type=FOLDER,
        default=Path("leaderboards/records"),
        show_default=True,
        help="Where published records are.",
    ),
    click.option(
        "--tables",
        type=FOLDER,
        default=Path("leaderboards/tables"),
        show_default=True,
        help="With --changed: the boards' tables of --records.",
    ),
)
@click.option(
    "--reattack",
    "extent",
    type=click.Choice(["none", "quick", "full"]),
    default="full",
    show_default=True,
    help="Attack a sample again: all that the board shows; quick: without AutoAttack.",
)
@click.option("--draw", type=int, help="Seed of the sample that is attacked again.  [default: another each time]")
@where_options
def validate(
    *,
    paths: tuple[Path, ...],
    published: PublishedFolders,
    extent: Literal["none", "quick", "full"],
    draw: int | None,
    where: Where,
) -> None:
    """Check bundles (zip) and record files: contradictions are refused (exit code 1), oddities are named.

    A bundle's records are rebuilt from their shards, and so are record files whose run is in the store; where there
    are checkpoints, too, one random shard of each is attacked again. --changed also compares the boards' tables with
    the records. Nothing of a submission is executed.

    \b
    Examples:
      advbench validate soft_margin.zip --reattack quick
      advbench validate --changed --base origin/main
    """
    from advbench.benchmark.records.corrections import record_files
    from advbench.benchmark.records.schema import Record
    from advbench.benchmark.review import changed_records, consistency
    from advbench.benchmark.review.spot_check import Sample
    from advbench.leaderboards.board import load_records

    base, folder = published.base, published.records
    if published.changed == bool(paths):
        raise Refused("name bundles or records, or use --changed, one of the two")
    bundles = [path for path in paths if path.suffix == ".zip"]
    files = [path for path in paths if path.suffix != ".zip"]
    if published.changed:
        files = changed_records.changed(base, folder)
    sample = Sample(extent, where.data_root, where.torch_device(), random.Random(draw))
    found: list[Finding] = []
    for path in bundles:
        found += _bundle(path, sample)
    files = [file for path in files for file in (record_files(path) if path.is_dir() else [path])]
    placed = [(Record.load(path), path) for path in files]
    loose = [record for record, _ in placed]
    if loose:
        there = load_records(folder) if folder.is_dir() else []
        known = {record.run: record for record in there} | {record.run: record for record in loose}
        touched = {consistency.name(record) for record in loose}
        contradictions = consistency.validate(list(known.values()))
        found += [finding for finding in contradictions if finding.place.split(",")[0] in touched]
        found += _runs(loose, where.store, sample, refused=bool(_refused(found)))
    if published.changed:
        found += changed_records.silent_corrections(base, folder)
        found += changed_records.misplaced(placed, folder)
        found += _stale(folder, published.tables)
    click.echo(f"{len(bundles)} bundles and {len(loose)} records looked at")
    _show(found)


def _bundle(path: Path, sample: "Sample") -> "list[Finding]":
    """Return the findings on a bundle; a sample is attacked again only while nothing is refused."""
    from advbench.benchmark.review import bundle

    with tempfile.TemporaryDirectory() as place:
        opened = bundle.unpack(path, Path(place))
        found = list(bundle.inspect(opened))
        for record in opened.records:
            folder = opened.run(record)
            if folder is not None and not _refused(found):
                found += sample.reattack(folder, record)
    return found


def _runs(records: "Sequence[Record]", store: "Store", sample: "Sample", *, refused: bool) -> "list[Finding]":
    """Hold record files against their adapters in methods/, and against their runs where the store has them."""
    from advbench.benchmark.review import bundle
    from advbench.benchmark.review.adapter import source_rules
    from advbench.benchmark.runs.store import StoreError

    found: list[Finding] = []
    if METHODS.is_dir():
        names = {record.method.name for record in records}
        sources = {file.as_posix(): file.read_bytes() for file in sorted(METHODS.glob("*.py"))}
        made = {place: text for place, text in sources.items() if names & set(source_rules.method_names(text))}
        found += bundle.against_sources(records, made)
    for record in records:
        try:
            folder = store.find(record.run)
        except StoreError:
            continue
        found += bundle.against_run(folder, record)
        if not refused and not _refused(found):
            found += sample.reattack(folder, record)
    return found


def _stale(records: Path, tables: Path) -> "list[Finding]":
    """Refuse tables that are not what the published records say."""
    from advbench.benchmark.cli.board_files import stale_files
    from advbench.benchmark.review.finding import Finding

    published = records.is_dir() and any(records.rglob("*.json"))
    hint = f"`advbench leaderboard --records {records} --out {tables}` writes the tables anew"
    return [
        Finding("tables", "refused", str(path), "it is not what the records say", hint)
        for path in stale_files(RecordSource(records=records).boards() if published else [], tables)
    ]


def _refused(found: "Iterable[Finding]") -> "list[Finding]":
    return [finding for finding in found if finding.blocks]


def _show(found: "Sequence[Finding]") -> None:
    refused = _refused(found)
    for finding in (*refused, *(finding for finding in found if not finding.blocks)):
        click.echo(finding)
    if refused:
        raise Failed(f"refused: {', '.join(dict.fromkeys(finding.rule for finding in refused))}")
    click.echo("valid" if not found else "valid; a maintainer looks at what is suspicious")
