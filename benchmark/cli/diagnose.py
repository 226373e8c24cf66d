"""`advbench diagnose`: can the robustness of one network be believed? With plots."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.any_network import find_network, network_options
from advbench.benchmark.cli.options import (
    FOLDER,
    data_option,
    device_option,
    open_store,
    store_option,
)

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.models.external import Workload
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.runs.store import Store

_FORMATS = ("png", "pdf")
_SUBSET = 200


def _stem(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[-80:]


@click.command(short_help="Examine one network, with plots.")
@click.argument("network")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True)
@click.option("--no-autoattack", is_flag=True, help="Leave out AutoAttack, the costliest part.")
@click.option("--all-images", is_flag=True, help=f"The whole test set.  [default: the first {_SUBSET} images]")
@click.option("--out", type=FOLDER, default=Path("diagnosis"), show_default=True, help="Folder to write into.")
@network_options
@store_option
@data_option
@device_option
def diagnose(
    *,
    network: str,
    checkpoint: str,
    no_autoattack: bool,
    all_images: bool,
    out: Path,
    architecture: str | None,
    weights: Path | None,
    asked: "Protocol | None",
    subset: int | None,
    store_root: Path | None,
    data_root: Path | None,
    device: str,
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
    from advbench.benchmark.evaluation.diagnosis import diagnose as examine
    from advbench.benchmark.files import write_bytes
    from advbench.benchmark.runs.launch import choose_device
    from advbench.reports import diagnosis

    where = choose_device(device)
    opened, workload, dataset, protocol = find_network(
        network,
        checkpoint=checkpoint,
        architecture=architecture,
        weights=weights,
        asked=asked,
        norm="linf",
        store_root=store_root,
        data_root=data_root,
        device=where,
    )
    test = len(dataset.test)
    images = test if all_images else min(subset or _SUBSET, test)
    click.echo(f"network: {opened.origin.reference} ({opened.origin.said})")
    click.echo(f"data: {protocol.data.name}, {images} of {test} test images, L∞, eps {protocol.threat.eps}")
    found = examine(
        opened.network,
        dataset.test,
        protocol=protocol,
        images=images,
        num_classes=workload.num_classes,
        peers=_peers(open_store(store_root), protocol, workload, where, opened.origin.sha256),
        autoattack=not no_autoattack,
        say=lambda said: click.echo(said, err=True),
    )
    found |= {"name": opened.origin.reference, "origin": opened.origin.to_plain(), "protocol": protocol.name}
    for line in diagnosis.words(found):
        click.echo(line)
    stem = out / _stem(opened.origin.reference)
    out.mkdir(parents=True, exist_ok=True)
    path = stem.with_name(f"{stem.name}.json")
    write_bytes(path, (json.dumps(found, indent=1) + "\n").encode())
    for written in (path, *diagnosis.draw(found, stem, formats=_FORMATS)):
        click.echo(f"wrote {written}")


def _peers(
    store: "Store", protocol: "Protocol", workload: "Workload", device: "torch.device", itself: str | None
) -> "dict[str, torch.nn.Module]":
    """Return the standard and the PGD-AT network of the store, but not the one that is examined."""
    from advbench.benchmark.runs.open_checkpoint import open_run

    peers: dict[str, torch.nn.Module] = {}
    for folder in store.folders():
        if folder.path.parent.name != protocol.slug or folder.spec.protocol.digest != protocol.digest:
            continue
        trained = folder.trained()
        if trained is None or "best" not in trained.checkpoints or folder.spec.method not in {"standard", "pgd_at"}:
            continue
        name = trained.method.label
        if folder.spec.seed == 0 and not trained.method.changed and trained.checkpoints["best"].sha256 != itself:
            peers[name] = open_run(folder, "best", workload, device=device).network
    return peers
