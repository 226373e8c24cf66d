"""`advbench diagnose`: can the robustness of one network be believed? With plots."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.any_network import NETWORK_OPTIONS, NetworkRef, under_attack
from advbench.benchmark.cli.console import file_name, write_result
from advbench.benchmark.cli.options import (
    RUN,
    Where,
    checkpoint_option,
    flag,
    gather,
    out_folder,
    subset_option,
    where_options,
)

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.protocol import Protocol

_SUBSET = 200


@click.command(short_help="Examine one network, with plots.")
@gather(
    "network", NetworkRef, click.argument("network", metavar="NETWORK", type=RUN), checkpoint_option(), *NETWORK_OPTIONS
)
@flag("--no-autoattack", help="Leave out AutoAttack, the costliest part.")
@subset_option
@flag("--all-images", help=f"The whole test set.  [default: the first {_SUBSET} images]")
@out_folder("diagnosis")
@where_options
def diagnose(
    *, network: NetworkRef, no_autoattack: bool, subset: int | None, all_images: bool, out: Path, where: Where
) -> None:
    """Examine one NETWORK: can its robustness be believed? L∞.

    NETWORK is a run or anything else that `evaluate` takes: a file of weights, zoo:NAME, module:function,
    FILE.py:function, exported:FILE, scripted:FILE.

    Accuracy against eps and against steps, the loss along the iterations, noise against gradients, white box against
    transfer from the store's peers, agreement of the attacks, and every flag: as text, as a figure, and as JSON.

    \b
    Examples:
      advbench diagnose 3fa9
      advbench diagnose mine.py:defense --protocol cifar10-linf --subset 500 --no-autoattack --out diagnosis
    """
    from advbench.benchmark.evaluation import diagnosis
    from advbench.reports import diagnosis as report

    opened, workload, dataset, protocol = network.open(where)
    test = len(dataset.test)
    images = test if all_images else min(subset or _SUBSET, test)
    click.echo(f"network: {opened.origin.reference} ({opened.origin.text})")
    click.echo(f"data: {protocol.data.name}, {images} of {test} test images, {protocol.threat.text}")
    peers = _peers(where, protocol, opened.origin.sha256)
    with under_attack(opened):
        found = diagnosis.diagnose(
            opened.network,
            dataset.test,
            protocol=protocol,
            images=images,
            num_classes=workload.num_classes,
            peers=peers,
            autoattack=not no_autoattack,
            say=lambda line: click.echo(line, err=True),
        )
    found |= {"name": opened.origin.reference, "origin": opened.origin.to_plain(), "protocol": protocol.name}
    for line in report.words(found):
        click.echo(line)
    stem = out / file_name(opened.origin.reference)
    write_result(found, report.draw(found), stem)


def _peers(where: Where, protocol: "Protocol", itself: str | None) -> "dict[str, torch.nn.Module]":
    """Return the standard and the PGD-AT network of the store, but not the one that is examined."""
    from advbench.benchmark.runs.open_checkpoint import open_run

    return {
        trained.method.label: open_run(folder, "best", where.torch_device()).network
        for folder, trained in where.store.peers(protocol)
        if trained.checkpoints["best"].sha256 != itself
    }
