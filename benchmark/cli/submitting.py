"""`advbench submit` and `validate`: finished runs as a bundle, and whether a bundle or a record can be believed."""

import random
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.options import FOLDER, data_option, device_option, open_store, store_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from advbench.benchmark.runfolder import RunFolder
    from advbench.benchmark.validation import Remark

RECORDS = Path("leaderboards/records")


@click.command(short_help="Collect finished runs into a bundle.")
@click.argument("runs", nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The bundle, a zip file.")
@click.option("--extra-data", default="none", show_default=True, help="Data beside the protocol's, in words.")
@click.option("--open", "open_division", is_flag=True, help="Open division: own protocol file, or extra data.")
@click.option("--weights", is_flag=True, help="Put the checkpoints in, so that a sample can be attacked again.")
@store_option
def submit(
    *, runs: tuple[str, ...], out: Path, extra_data: str, open_division: bool, weights: bool, store_root: Path | None
) -> None:
    """Collect records, curves, shards, checkpoint digests and adapters of finished RUNS into a bundle.

    RUNS are identities (or their beginnings), or names of methods: all their runs in the store.

    \b
    Examples:
      advbench submit soft_margin --out soft_margin.zip --weights
      advbench submit 3fa9 77b0 --out pair.zip --open --extra-data "1M DDPM images"
    """
    from advbench.benchmark import bundle, discovery

    store = open_store(store_root)
    folders: dict[str, RunFolder] = {}
    for word in runs:
        named = [folder for folder in store.folders() if folder.spec.method == word] or [store.find(word)]
        folders |= {folder.id: folder for folder in named}
    methods = {folder.spec.method for folder in folders.values()}
    sources = {discovery.source_file(discovery.load(method)) for method in methods}
    records = bundle.submit(
        folders.values(),
        out,
        sources=sorted(sources),
        extra_data=extra_data,
        open_division=open_division,
        weights=weights,
    )
    for record in records:
        click.echo(f"{record.protocol_name} {record.method.row} seed {record.seed}: run {record.run}")
    click.echo(f"wrote {out}; next: `advbench validate {out}`")


@click.command(short_help="Say whether a bundle or a record can be believed.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--changed", is_flag=True, help="Every published record that git says was changed since --base.")
@click.option("--base", default="origin/main", show_default=True, help="With --changed: compared with this revision.")
@click.option("--records", type=FOLDER, default=RECORDS, show_default=True, help="With --changed: where records are.")
@click.option("--draw", type=int, help="Seed of the sample that is attacked again.  [default: another each time]")
@data_option
@device_option
def validate(
    *,
    paths: tuple[Path, ...],
    changed: bool,
    base: str,
    records: Path,
    draw: int | None,
    data_root: Path | None,
    device: str,
) -> None:
    """Check bundles (zip) and record files: contradictions are refused (exit code 1), oddities are named.

    A bundle's records are rebuilt from their shards; where it holds checkpoints a random sample is attacked again.
    Nothing of a submission is executed.

    \b
    Examples:
      advbench validate soft_margin.zip
      advbench validate --changed --base origin/main
    """
    from advbench.benchmark import validation
    from advbench.leaderboards.board import load_records

    if changed == bool(paths):
        raise Refused("name bundles or records, or use --changed, one of the two")
    bundles = [path for path in paths if path.suffix == ".zip"]
    files = _changed(base, records) if changed else [path for path in paths if path.suffix != ".zip"]
    found: list[Remark] = []
    for path in bundles:
        found += _bundle(path, data_root, device, random.Random(draw))
    loose = [record for path in files for record in load_records(path)]
    if loose and records.is_dir():
        known = {record.run: record for record in load_records(records)} | {record.run: record for record in loose}
        touched = {validation.name(record) for record in loose}
        found += [one for one in validation.validate(list(known.values())) if one.where.split(",")[0] in touched]
    elif loose:
        found += validation.validate(loose)
    click.echo(f"{len(bundles)} bundles and {len(loose)} records looked at")
    _say(found)


def _bundle(path: Path, data_root: Path | None, device: str, draw: random.Random) -> "list[Remark]":
    from advbench.benchmark import bundle
    from advbench.benchmark.cli.carrying import choose_device
    from advbench.benchmark.reattack import reattack

    with tempfile.TemporaryDirectory() as place:
        opened = bundle.unpack(path, Path(place))
        found = list(bundle.inspect(opened))
        if not any(one.severity == "refused" for one in found):
            for record in opened.records:
                found += reattack(opened, record, data_root=data_root, device=choose_device(device), draw=draw)
    return found


def _changed(base: str, records: Path) -> list[Path]:
    """Return the record files that were added or changed since a revision.

    Raises:
        Refused: if git cannot say.
    """
    words = ["git", "diff", "--name-only", "--relative", "--diff-filter=d", "-z", base, "--", str(records)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"git cannot compare with {base}: {done.stderr.strip()}; name another revision with --base")
    return [Path(name) for name in done.stdout.split("\0") if name.endswith(".json")]


def _say(found: "Sequence[Remark]") -> None:
    refused = [one for one in found if one.severity == "refused"]
    for one in (*refused, *(one for one in found if one.severity == "suspicious")):
        click.echo(f"{one.severity}: {one.rule}: {one.where}: {one.said}")
    if refused:
        raise Failed(f"refused: {', '.join(dict.fromkeys(one.rule for one in refused))}")
    click.echo("valid" if not found else "valid; a maintainer looks at what is suspicious")
