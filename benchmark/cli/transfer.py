"""`advbench transfer`: adversarial examples of every network of a board tried on every other."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import print_table, write_result
from advbench.benchmark.cli.options import (
    POSITIVE,
    Where,
    checkpoint_option,
    methods_option,
    out_folder,
    protocol_or_default,
    where_options,
)

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.schema import CheckpointName


@click.command(short_help="Try the examples of every network on every other.")
@protocol_or_default
@methods_option(help="Only these methods.")
@checkpoint_option()
@click.option("--seed", type=int, help="Only this seed.  [default: all]")
@click.option("--subset", type=POSITIVE, help="Only the first N test images (marked).")
@out_folder("figures")
@where_options
def transfer(
    *,
    protocol: "Protocol",
    methods: tuple[str, ...] | None,
    checkpoint: "CheckpointName",
    seed: int | None,
    subset: int | None,
    out: Path,
    where: Where,
) -> None:
    """Make PGD-20 examples on every trained network of a board and judge them by every other: table, figure, JSON.

    \b
    Examples:
      advbench transfer --protocol digits-linf
      advbench transfer --protocol cifar10-linf --methods pgd_at,trades,mart --seed 0 --subset 1000
    """
    from advbench.benchmark import discovery
    from advbench.benchmark.data import registry
    from advbench.benchmark.evaluation.transfer import matrix
    from advbench.benchmark.runs.launch import limit_threads
    from advbench.benchmark.runs.open_checkpoint import open_run
    from advbench.reports import transfer as report

    limit_threads()
    store, device = where.store, where.torch_device()
    wanted = None if methods is None else {discovery.load(name).card.name for name in methods}
    chosen = [
        (folder, trained)
        for folder in store.folders()
        if folder.path.parent.name == protocol.slug
        and folder.spec.protocol.digest == protocol.digest
        and folder.spec.division == "closed"
        and (wanted is None or folder.spec.method in wanted)
        and seed in {None, folder.spec.seed}
        and (trained := folder.trained()) is not None
        and checkpoint in trained.checkpoints
    ]
    if len(chosen) < 2:
        raise Refused(f"{store.root}: {len(chosen)} trained networks of {protocol.name}; a transfer matrix needs two")
    dataset = registry.load(protocol.data, root=where.data_root, device=device)
    networks = {
        f"{trained.method.row} s{folder.spec.seed}": open_run(folder, checkpoint, device).network
        for folder, trained in chosen
    }
    images = min(subset or len(dataset.test), len(dataset.test))
    found = matrix(
        networks,
        dataset.test,
        protocol=protocol,
        images=images,
        say=lambda text: click.echo(text, err=True),
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
    stem = out / f"{protocol.slug}-transfer"
    write_result(found, report.draw(found), stem)
