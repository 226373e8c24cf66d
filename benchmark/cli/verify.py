"""`advbench verify`: recompute what a record claims from its checkpoint, or hold adversarial examples against it."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import data_option, device_option, open_store, store_option
from advbench.benchmark.files import file_sha256
from advbench.benchmark.records.schema import FAMILIES

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.data.registry import Dataset
    from advbench.benchmark.records.schema import CheckpointName, Record
    from advbench.benchmark.review.counterexamples import Judgement
    from advbench.benchmark.review.reproduce import Claim, FlagClaim, Verifier

_LISTED = 20
"""Of the fallen images, this many are listed in the terminal."""


@click.command(short_help="Recompute what a record claims.")
@click.argument("record")
@click.option("--checkpoint", type=click.Choice(["best", "last", "both"]), default="both", show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="The weights file, or a folder of them.")
@click.option("--attack", "families", type=click.Choice(FAMILIES), multiple=True, help="Repeatable.  [default: all]")
@click.option("--sample", "count", type=click.IntRange(1), help="Only N random images (AutoAttack: shards).")
@click.option("--draw", default=0, show_default=True, help="Which random sample.")
@click.option(
    "--adversarial",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Judge these adversarial examples instead: x_adv and index.",
)
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
    adversarial: Path | None,
    threads: int | None,
    out: Path | None,
    store_root: Path | None,
    data_root: Path | None,
    device: str,
) -> None:
    """Recompute what RECORD claims, from its checkpoint: all of it, or a random sample of images.

    RECORD is a file, or a run of the store. The weights must have the sha256 that the record names. Outcomes are
    compared image by image: equal to the bit on the same kind of CPU with the same libraries and threads; elsewhere
    a few images may turn, and the limit is printed. "examination" repeats the examination and compares every flag.
    Exit code 1: it is different.

    With --adversarial nothing is attacked: FILE.npz holds what an attack of your own found, `x_adv`, float32
    (n, C, H, W) in [0,1] and inside the ball, and `index`, (n,) test indices, each once; `checkpoint` ("best" or
    "last") may be in it, else --checkpoint says which, best by default. Images are judged as the evaluator judges its
    own. Exit code 1: images that the record counts as robust fall, so the row is found too weak.

    \b
    Examples:
      advbench verify 3fa9
      advbench verify leaderboards/records/3fa9.json --weights best.safetensors --checkpoint best --sample 100
      advbench verify 3fa9 --adversarial found.npz --out verdict.json
    """
    import torch

    from advbench.benchmark.cli.read_records import find_weights, load_network, read_record
    from advbench.benchmark.data import registry
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.review import reproduce
    from advbench.benchmark.runs.environment import describe
    from advbench.benchmark.runs.launch import choose_device

    claimed, folder = read_record(record, store_root)
    if adversarial is not None and (families or count):
        raise Refused("--adversarial judges given examples: leave out --attack and --sample")
    if count and "examination" in families:
        raise Refused("flags are judged on the whole test set: leave out --sample, or --attack examination")
    protocol = Protocol.from_plain(claimed.protocol, f"record {claimed.run}")
    where = choose_device(device)
    torch.set_num_threads(threads or _threads(claimed) or torch.get_num_threads())
    dataset = registry.load(protocol.data, root=data_root, device=where)
    reproduce.check_provenance(claimed, protocol, dataset.test, dataset.provenance.digest)

    def opened(name: "CheckpointName") -> "Verifier":
        path = find_weights(claimed, name, weights, folder)
        network = load_network(path, protocol.network, dataset.num_classes, dataset.shape[0]).to(where)
        return reproduce.Verifier(claimed, protocol, name, network, dataset.test, describe(where))

    if adversarial is not None:
        from advbench.benchmark.review import counterexamples

        examples = counterexamples.read(adversarial, len(dataset.test), tuple(dataset.shape))
        name = _which(checkpoint, examples.checkpoint)
        _weak(counterexamples.judge(examples, opened(name)), claimed, adversarial, out)
        return
    names = [name for name in claimed.checkpoints if checkpoint in {name, "both"}]
    if not names:
        raise Refused(f"record {claimed.run} has no {checkpoint} checkpoint")
    verifiers = [opened(name) for name in names]
    claims = [claim for one in verifiers for claim in _repeat(one, families or FAMILIES, count, draw)]
    flags: list[FlagClaim] = []
    if count is None and "examination" in (families or FAMILIES):
        for one in verifiers:
            if one.examined:
                peers = _peers(claimed, store_root, dataset, where)
                flags += one.flags(peers, partial(_say, f"{one.name}: examination"))
    _report(claimed, claims, flags, out)


def _report(record: "Record", claims: "list[Claim]", flags: "list[FlagClaim]", out: Path | None) -> None:
    """Show what came out.

    Raises:
        Refused: if nothing was claimed.
        Failed: if something is different.
    """
    if not claims and not flags:
        raise Refused(f"record {record.run} claims none of these attacks")
    if claims:
        rows = [
            (
                one.checkpoint,
                one.column,
                len(one.images),
                f"{one.claimed.mean():.2%}",
                f"{one.found.mean():.2%}",
                one.message,
            )
            for one in claims
        ]
        print_table(
            ("checkpoint", "column", "images", "claimed", "found", "verdict"), rows, right=["images", "claimed"]
        )
    if flags:
        shown = [(one.checkpoint, one.flag, one.claimed, one.found, one.verdict) for one in flags]
        print_table(("checkpoint", "flag", "claimed", "found", "verdict"), shown)
    _write([*(one.to_plain() for one in claims), *(one.to_plain() for one in flags)], out)
    wrong = [f"{one.checkpoint} {one.column}" for one in claims if one.verdict == "different"]
    wrong += [f"{one.checkpoint} flag {one.flag}" for one in flags if one.verdict == "different"]
    if wrong:
        raise Failed(f"record {record.run} is NOT what comes out: {', '.join(wrong)}")
    equal = all(one.verdict == "equal" for one in claims)
    click.echo(f"record {record.run}: {'equal to the bit' if equal else 'equal within tolerance'}")


def _write(plain: object, out: Path | None) -> None:
    from advbench.benchmark.files import write_bytes

    if out is not None:
        write_bytes(out, (json.dumps(plain, indent=1) + "\n").encode())
        click.echo(f"wrote {out}", err=True)


def _which(asked: str, said: "CheckpointName | None") -> "CheckpointName":
    """Return the checkpoint that examples are for: the file's, the option's, or best.

    Raises:
        Refused: if file and option name two.
    """
    if said is not None and asked not in {said, "both"}:
        raise Refused(f"the file is for {said}, --checkpoint says {asked}: name the same, or none")
    return said or ("last" if asked == "last" else "best")


def _weak(found: "Judgement", record: "Record", file: Path, out: Path | None) -> None:
    """Show what examples do to a record.

    Raises:
        Failed: if images fall that it counts as robust.
    """
    from advbench.benchmark.review.counterexamples import CLOSE

    threat = record.protocol["threat"]
    counted = "every attack" if found.column == "worst" else "AutoAttack"
    click.echo(
        f"{found.shown} examples for {found.checkpoint} of {record.method.row} seed {record.seed} under "
        f"{record.protocol_name}, {threat['norm']}, eps {threat['eps']}, the farthest pixel {found.farthest:.8g} away"
    )
    click.echo(
        f"{found.fooled} fool the network; {len(found.fallen)} of the {found.claimed} images fall that the record "
        f"counts as robust ({counted})"
    )
    rows = [(one.index, one.label, one.predicted, f"{one.margin:.3g}") for one in found.fallen[:_LISTED]]
    if rows:
        print_table(("test image", "label", "predicted", "margin"), rows, right=["test image", "label", "predicted"])
    if len(found.fallen) > _LISTED:
        click.echo(f"and {len(found.fallen) - _LISTED} more (--out lists them all)")
    if found.close:
        click.echo(f"{found.close} of them by a margin below {CLOSE:g}, which another device may round back")
    click.echo(
        f"robust accuracy is at most {found.left / found.test:.2%} (claimed {found.claimed / found.test:.2%}); "
        f"under AutoAttack and these examples {found.autoattack_left / found.test:.2%} "
        f"(claimed {found.autoattack / found.test:.2%})"
    )
    facts = {"record": record.run, "protocol": record.protocol_name, "protocol_digest": record.protocol_digest}
    facts |= {"method": record.method.row, "seed": str(record.seed), "norm": threat["norm"], "eps": threat["eps"]}
    _write({**facts, "file_sha256": file_sha256(file), **found.to_plain()}, out)
    if found.fallen:
        raise Failed(f"record {record.run}: {len(found.fallen)} images that it counts as robust fall: too weak")
    click.echo(f"record {record.run} stands: none of these examples fools it on an image that it counts as robust")


def _peers(
    record: "Record", store_root: Path | None, dataset: "Dataset", device: "torch.device"
) -> "dict[str, torch.nn.Module]":
    """Return the peers of a run of the store, as its examination had them; none for a record from elsewhere."""
    from advbench.benchmark.cli.read_records import load_network
    from advbench.benchmark.runs.store import StoreError

    store = open_store(store_root)
    try:
        folder = store.find(record.run)
    except StoreError:
        return {}
    peers = {}
    for peer in store.peers(folder.spec):
        trained = peer.trained()
        if peer.id != folder.id and trained is not None:
            name = f"{trained.method.name} {trained.checkpoints['best'].sha256}"
            network = load_network(peer.weights("best"), record.network, dataset.num_classes, dataset.shape[0])
            peers[name] = network.to(device)
    return peers


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
    from advbench.benchmark.review.reproduce import sample

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
