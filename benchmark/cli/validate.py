"""`advbench validate`: can a bundle or a record be believed?"""

import hashlib
import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.options import FOLDER, data_option, device_option, open_store, store_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from advbench.benchmark.records.schema import Record
    from advbench.benchmark.review.consistency import Remark
    from advbench.benchmark.runs.run_folder import RunFolder
    from advbench.benchmark.runs.store import Store

RECORDS, TABLES, METHODS = Path("leaderboards/records"), Path("leaderboards/tables"), Path("methods")


@click.command(short_help="Say whether a bundle or a record can be believed.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--changed", is_flag=True, help="Every published record that git says was changed since --base.")
@click.option("--base", default="origin/main", show_default=True, help="With --changed: compared with this revision.")
@click.option("--records", type=FOLDER, default=RECORDS, show_default=True, help="Where published records are.")
@click.option(
    "--tables", type=FOLDER, default=TABLES, show_default=True, help="With --changed: the boards' tables of --records."
)
@click.option(
    "--reattack",
    "extent",
    type=click.Choice(["none", "quick", "full"]),
    default="quick",
    show_default=True,
    help="Attack a sample again: PGD and CW; full: AutoAttack, too.",
)
@click.option("--draw", type=int, help="Seed of the sample that is attacked again.  [default: another each time]")
@store_option
@data_option
@device_option
def validate(
    *,
    paths: tuple[Path, ...],
    changed: bool,
    base: str,
    records: Path,
    tables: Path,
    extent: Literal["none", "quick", "full"],
    draw: int | None,
    store_root: Path | None,
    data_root: Path | None,
    device: str,
) -> None:
    """Check bundles (zip) and record files: contradictions are refused (exit code 1), oddities are named.

    A bundle's records are rebuilt from their shards, and so are record files whose run is in the store; where there
    are checkpoints, too, one random shard of each is attacked again. --changed also compares the boards' tables with
    the records. Nothing of a submission is executed.

    \b
    Examples:
      advbench validate soft_margin.zip --reattack full
      advbench validate --changed --base origin/main
    """
    from advbench.benchmark.review import consistency
    from advbench.leaderboards.board import load_records

    if changed == bool(paths):
        raise Refused("name bundles or records, or use --changed, one of the two")
    bundles = [path for path in paths if path.suffix == ".zip"]
    files = _changed(base, records) if changed else [path for path in paths if path.suffix != ".zip"]
    again = _Again(extent, data_root, device, random.Random(draw))
    found: list[Remark] = []
    for path in bundles:
        found += _bundle(path, again)
    placed = [(record, path) for path in files for record in load_records(path)]
    loose = [record for record, _ in placed]
    if loose:
        published = load_records(records) if records.is_dir() else []
        known = {record.run: record for record in published} | {record.run: record for record in loose}
        touched = {consistency.name(record) for record in loose}
        found += [one for one in consistency.validate(list(known.values())) if one.where.split(",")[0] in touched]
        found += _runs(loose, open_store(store_root), again, refused=bool(_refused(found)))
    if changed:
        found += _silent(base, records)
        found += _places(placed, records)
        found += _stale(records, tables)
    click.echo(f"{len(bundles)} bundles and {len(loose)} records looked at")
    _say(found)


@dataclass(frozen=True)
class _Again:
    """How a sample is attacked again."""

    extent: Literal["none", "quick", "full"]
    data_root: Path | None
    device: str
    draw: random.Random

    def attack(self, folder: "RunFolder", record: "Record") -> "tuple[Remark, ...]":
        """Attack a sample of one record again."""
        from advbench.benchmark.review.spot_check import reattack
        from advbench.benchmark.runs.launch import choose_device

        if self.extent == "none":
            return ()
        device = choose_device(self.device)
        return reattack(folder, record, data_root=self.data_root, device=device, draw=self.draw, extent=self.extent)


def _bundle(path: Path, again: _Again) -> "list[Remark]":
    """Return what is to be said of a bundle; a sample is attacked again only while nothing is refused."""
    from advbench.benchmark.review import bundle

    with tempfile.TemporaryDirectory() as place:
        opened = bundle.unpack(path, Path(place))
        found = list(bundle.inspect(opened))
        for record in opened.records:
            folder = opened.run(record)
            if folder is not None and not _refused(found):
                found += again.attack(folder, record)
    return found


def _runs(records: "Sequence[Record]", store: "Store", again: _Again, *, refused: bool) -> "list[Remark]":
    """Hold record files against their adapters in methods/, and against their runs where the store has them."""
    from advbench.benchmark.review import bundle
    from advbench.benchmark.review.adapter import source_rules
    from advbench.benchmark.runs.store import StoreError

    found: list[Remark] = []
    if METHODS.is_dir():
        names = {record.method.name for record in records}
        adapters = [file for file in sorted(METHODS.glob("*.py")) if names & set(source_rules.method_names(file))]
        for file in adapters:
            found += bundle.read_adapter(file, file.as_posix())
        found += bundle.unmade(records, adapters)
    for record in records:
        try:
            folder = store.find(record.run)
        except StoreError:
            continue
        found += bundle.against_run(folder, record)
        if not refused and not _refused(found):
            found += again.attack(folder, record)
    return found


def _places(placed: "Sequence[tuple[Record, Path]]", records: Path) -> "list[Remark]":
    """Refuse records that lie where another one belongs."""
    from advbench.benchmark.records.publish import destination
    from advbench.benchmark.review.consistency import Remark, name

    return [
        Remark("misplaced", "refused", name(record), f"{path} is not where it belongs, {destination(record, records)}")
        for record, path in placed
        if path.resolve() != destination(record, records).resolve()
    ]


def _stale(records: Path, tables: Path) -> "list[Remark]":
    """Refuse tables that are not what the published records say."""
    from advbench.benchmark.cli.board_files import stale_files
    from advbench.benchmark.cli.read_records import build
    from advbench.benchmark.review.consistency import Remark

    published = records.is_dir() and any(records.rglob("*.json"))
    mend = f"`advbench leaderboard --records {records} --out {tables}` writes the tables anew"
    return [
        Remark("tables", "refused", str(path), f"it is not what the records say; {mend}")
        for path in stale_files(build(records, None, None) if published else [], tables)
    ]


def _changed(base: str, records: Path) -> list[Path]:
    """Return the files of current records that were added or changed since a revision.

    Raises:
        Refused: if git cannot say.
    """
    from advbench.benchmark.records.corrections import FOLDER as PAST

    names = _git("diff", "--name-only", "--relative", "--diff-filter=d", "-z", base, "--", str(records), base=base)
    return [path for path in map(Path, names.decode().split("\0")) if path.suffix == ".json" and PAST not in path.parts]


def _silent(base: str, records: Path) -> "list[Remark]":
    """Refuse published records that were replaced or removed since a revision and are not kept with the reason."""
    from advbench.benchmark.records import corrections
    from advbench.benchmark.review.consistency import Remark

    words = ("diff", "--name-only", "--relative", "--diff-filter=MD", "--no-renames", "-z", base, "--", str(records))
    found = []
    for path in map(Path, filter(None, _git(*words, base=base).decode().split("\0"))):
        if path.suffix != ".json":
            continue
        digest = hashlib.sha256(_git("show", f"{base}:./{path.as_posix()}", base=base)).hexdigest()
        if corrections.FOLDER in path.parts:
            said = "what is kept of a superseded record never changes: restore it"
        elif corrections.kept(path, digest).is_file():
            continue
        else:
            said = "a published record was changed or removed: `advbench publish --replace` or --withdraw keeps it"
        found.append(Remark("silent correction", "refused", str(path), said))
    return found


def _git(*words: str, base: str) -> bytes:
    """Return what git says.

    Raises:
        Refused: if it cannot.
    """
    done = subprocess.run(["git", *words], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Refused(f"git cannot compare with {base}: {said}; name another revision with --base")
    return done.stdout


def _refused(found: "Iterable[Remark]") -> "list[Remark]":
    return [one for one in found if one.severity == "refused"]


def _say(found: "Sequence[Remark]") -> None:
    refused = _refused(found)
    for one in (*refused, *(one for one in found if one.severity == "suspicious")):
        click.echo(f"{one.severity}: {one.rule}: {one.where}: {one.said}")
    if refused:
        raise Failed(f"refused: {', '.join(dict.fromkeys(one.rule for one in refused))}")
    click.echo("valid" if not found else "valid; a maintainer looks at what is suspicious")
