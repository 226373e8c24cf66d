"""`advbench pull`: a run from a repository of the Hugging Face hub."""

import shutil
from pathlib import Path

import click

from advbench.benchmark.cli.options import OUT_FOLDER


@click.command(short_help="Pull a run from the Hugging Face hub.")
@click.argument("repository")
@click.option("--revision", help="Branch, tag or commit.  [default: the newest]")
@click.option("--out", type=OUT_FOLDER, help="Folder to copy its record and weights into.")
def pull(*, repository: str, revision: str | None, out: Path | None) -> None:
    """Pull REPOSITORY (owner/name) and compare its weights with its record; they stay in the hub's cache.

    What was pulled is somebody's claim: `advbench verify` recomputes it. Needs advbench[hub].

    \b
    Examples:
      advbench pull me/trades-digits
      advbench pull me/trades-digits --out theirs && advbench verify theirs/record.json --weights theirs
    """
    from advbench.benchmark.runs import hub

    found = hub.pull(repository, revision)
    place = found.folder if out is None else Path(shutil.copytree(found.folder, out, dirs_exist_ok=True))
    record = found.record
    click.echo(f"{record.method.row} under {record.protocol_name}, seed {record.seed}: {place / 'record.json'}")
