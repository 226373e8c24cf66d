"""`advbench transfer`: adversarial examples of every network of a board tried on every other."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.any_network import limit_threads
from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import (
    DEFAULT_PROTOCOL,
    FOLDER,
    data_option,
    device_option,
    open_store,
    read_names,
    read_protocol,
    store_option,
)

_FORMATS = ("png", "pdf")

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.schema import CheckpointName


@click.command(short_help="Try the examples of every network on every other.")
@click.option(
    "--protocol",
    type=read_protocol,
    metavar="NAME|FILE.toml",
    default=DEFAULT_PROTOCOL,
    show_default=True,
    help="Whose board.",
)
@click.option("--methods", type=read_names, metavar="LIST", help="Only these methods.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True)
@click.option("--seed", type=int, help="Only this seed.  [default: all]")
@click.option("--subset", type=click.IntRange(1), help="Only the first N test images (marked).")
@click.option("--out", type=FOLDER, default=Path("figures"), show_default=True, help="Folder to write into.")
@store_option
@data_option
@device_option
def transfer(
    *,
    protocol: "Protocol",
    methods: tuple[str, ...] | None,
    checkpoint: str,
    seed: int | None,
    subset: int | None,
    out: Path,
    store_root: Path | None,
    data_root: Path | None,
    device: str,
) -> None:
    """Make PGD-20 examples on every trained network of a board and judge them by every other: table, figure, JSON.

    \b
    Examples:
      advbench transfer --protocol digits-linf
      advbench transfer --protocol cifar10-linf --methods pgd_at,trades,mart --seed 0 --subset 1000
    """
    from advbench.benchmark.data import registry
    from advbench.benchmark.evaluation.transfer import matrix
    from advbench.benchmark.files import write_bytes
    from advbench.benchmark.models import external
    from advbench.benchmark.runs.launch import choose_device
    from advbench.benchmark.runs.open_checkpoint import open_run
    from advbench.reports import transfer as report

    limit_threads()
    store, where = open_store(store_root), choose_device(device)
    chosen = [
        (folder, trained)
        for folder in store.folders()
        if folder.path.parent.name == protocol.slug
        and folder.spec.protocol.digest == protocol.digest
        and (methods is None or folder.spec.method in methods)
        and seed in {None, folder.spec.seed}
        and (trained := folder.trained()) is not None
        and checkpoint in trained.checkpoints
    ]
    if len(chosen) < 2:
        raise Refused(f"{store.root}: {len(chosen)} trained networks of {protocol.name}; a transfer matrix needs two")
    dataset = registry.load(protocol.data, root=data_root, device=where)
    workload = external.Workload(dataset.provenance.name, dataset.num_classes, dataset.shape)
    which: CheckpointName = "best" if checkpoint == "best" else "last"
    networks = {
        f"{trained.method.row} s{folder.spec.seed}": open_run(folder, which, workload, device=where).network
        for folder, trained in chosen
    }
    images = min(subset or len(dataset.test), len(dataset.test))
    found = matrix(
        networks,
        dataset.test,
        protocol=protocol,
        images=images,
        say=lambda name: click.echo(f"examples of {name}", err=True),
    )
    part = f"SUBSET: the first {images} of {len(dataset.test)}" if images < len(dataset.test) else f"all {images}"
    click.echo(f"accuracy (%) on PGD-20 examples; row: made on, column: judged by; {part} test images")
    rows = [
        (name, *(f"{100 * share:.1f}" for share in shares))
        for name, shares in zip(["clean", *found["names"]], [found["clean"], *found["accuracy"]], strict=True)
    ]
    print_table(("", *found["names"]), rows, right=found["names"])
    for line in report.misled(found):
        click.echo(line)
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{protocol.slug}-transfer"
    path = stem.with_name(f"{stem.name}.json")
    write_bytes(path, (json.dumps(found, indent=1) + "\n").encode())
    for written in (path, *report.draw(found, stem, formats=_FORMATS)):
        click.echo(f"wrote {written}")
