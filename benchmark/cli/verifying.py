"""`advbench verify`: recompute what a record claims from its checkpoint."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import data_option, device_option, store_option
from advbench.benchmark.cli.recorded import find_weights, load_network, read_record

if TYPE_CHECKING:
    from advbench.benchmark.records import Record
    from advbench.benchmark.verification import Claim, Verifier


@click.command(short_help="Recompute what a record claims.")
@click.argument("record")
@click.option("--checkpoint", type=click.Choice(["best", "last", "both"]), default="both", show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="The weights file, or a folder of them.")
@click.option(
    "--attack",
    "families",
    type=click.Choice(["clean", "pgd", "cw", "autoattack"]),
    multiple=True,
    help="Repeatable.  [default: all]",
)
@click.option("--sample", "count", type=click.IntRange(1), help="Only N random images (AutoAttack: shards).")
@click.option("--draw", default=0, show_default=True, help="Which random sample.")
@click.option("--threads", type=click.IntRange(1), help="Threads of torch.  [default: as measured]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the verdicts as JSON.")
@store_option
@data_option
@device_option
def verify(
    *,
    record: str,
    checkpoint: str,
    weights: Path | None,
    families: tuple[str, ...],
    count: int | None,
    draw: int,
    threads: int | None,
    out: Path | None,
    store_root: Path | None,
    data_root: Path | None,
    device: str,
) -> None:
    """Recompute what RECORD claims, from its checkpoint: all of it, or a random sample of images.

    RECORD is a file, or a run of the store. The weights must have the sha256 that the record names. Outcomes are
    compared image by image: equal to the bit on the same kind of CPU with the same libraries and threads; elsewhere
    a few images may turn, and the limit is printed. Exit code 1: it is different.

    \b
    Examples:
      advbench verify 3fa9
      advbench verify leaderboards/records/3fa9.json --weights best.safetensors --checkpoint best --sample 100
    """
    import torch

    from advbench.benchmark import data, verification
    from advbench.benchmark.cli.carrying import choose_device
    from advbench.benchmark.environment import describe
    from advbench.benchmark.jobs import FAMILIES
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.sealed import write_bytes

    claimed, folder = read_record(record, store_root)
    names = [name for name in claimed.checkpoints if checkpoint in {name, "both"}]
    if not names:
        raise Refused(f"record {claimed.run} has no {checkpoint} checkpoint")
    files = {name: find_weights(claimed, name, weights, folder) for name in names}
    protocol = Protocol.from_plain(claimed.protocol, f"record {claimed.run}")
    where = choose_device(device)
    torch.set_num_threads(threads or _threads(claimed) or torch.get_num_threads())
    dataset = data.load(protocol.data, root=data_root, device=where)
    verification.check_provenance(claimed, protocol, dataset.test, dataset.provenance.digest)
    claims: list[Claim] = []
    for name in names:
        network = load_network(files[name], protocol.network, dataset.num_classes, dataset.shape[0]).to(where)
        verifier = verification.Verifier(claimed, protocol, name, network, dataset.test, describe(where))
        claims += _repeat(verifier, families or FAMILIES, count, draw)
    if not claims:
        raise Refused(f"record {claimed.run} claims none of these attacks")
    rows = [
        (one.checkpoint, one.column, len(one.images), f"{one.claimed.mean():.2%}", f"{one.found.mean():.2%}", one.said)
        for one in claims
    ]
    print_table(("checkpoint", "column", "images", "claimed", "found", "verdict"), rows, right=["images", "claimed"])
    if out is not None:
        write_bytes(out, (json.dumps([one.to_plain() for one in claims], indent=1) + "\n").encode())
    wrong = [one for one in claims if one.verdict == "different"]
    if wrong:
        named = ", ".join(f"{one.checkpoint} {one.column}" for one in wrong)
        raise Failed(f"record {claimed.run} is NOT what comes out: {named}")
    equal = all(one.verdict == "equal" for one in claims)
    click.echo(f"record {claimed.run}: {'equal to the bit' if equal else 'equal within tolerance'}")


def _threads(record: "Record") -> int | None:
    """Return the number of threads that every column was measured with, if it is one."""
    counts = {
        outcome.environment.threads
        for found in record.checkpoints.values()
        for outcome in found.evaluation.columns.values()
        if outcome.environment is not None
    }
    return counts.pop() if len(counts) == 1 else None


def _say(what: str, shard: int) -> None:
    click.echo(f"{what}, shard {shard}", err=True)


def _repeat(verifier: "Verifier", wanted: tuple[str, ...], count: int | None, draw: int) -> "list[Claim]":
    """Repeat what is wanted, or a sample of it."""
    from advbench.benchmark.verification import sample

    size, test = verifier.protocol.attacks.shard, len(verifier.split)
    claims: list[Claim] = []
    for family in verifier.families(wanted):
        say = f"{verifier.name}: {family}"
        if count is None:
            every = range(-(-test // size))
            claims += verifier.shards(family, every, partial(_say, say))
            continue
        images, shards = sample(test, size, count, draw)
        click.echo(f"{say}, a sample", err=True)
        claims += verifier.shards(family, shards) if family == "autoattack" else verifier.images(family, images)
    return claims
