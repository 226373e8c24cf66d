"""`advbench submit`: finished runs as a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.options import OUT_FILE, RUN, flag, method_option, store_option

if TYPE_CHECKING:
    from advbench.benchmark.runs.run_folder import RunFolder
    from advbench.benchmark.runs.store import Store


@click.command(short_help="Collect finished runs into a bundle.")
@click.argument("runs", nargs=-1, required=True, metavar="RUNS...", type=RUN)
@click.option("--out", type=OUT_FILE, required=True, help="The bundle, a zip file.")
@click.option("--extra-data", default="none", show_default=True, help="Data beside the protocol's, in words.")
@flag("--open", "open_division", help="Open division: own protocol file, or extra data.")
@flag("--weights", help="Put the checkpoints in, so that a sample can be attacked again.")
@method_option
@store_option
def submit(
    *, runs: tuple[str, ...], out: Path, extra_data: str, open_division: bool, weights: bool, store: "Store"
) -> None:
    """Collect records, curves, shards, checkpoint digests and adapters of finished RUNS into a bundle.

    RUNS are identities (or their beginnings), or names of methods: all their runs in the store.

    \b
    Examples:
      advbench submit soft_margin --out soft_margin.zip --weights
      advbench submit mine --method ~/idea/mine.py --out mine.zip
      advbench submit 3fa9 77b0 --out pair.zip --open --extra-data "1M DDPM images"
    """
    from advbench.benchmark import discovery
    from advbench.benchmark.review import bundle

    folders: dict[str, RunFolder] = {}
    for word in runs:
        name = word.replace("-", "_")
        of_method = [folder for folder in store.folders() if folder.spec.method == name and not folder.spec.trial]
        folders |= {folder.id: folder for folder in of_method or [store.find(word)]}
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
