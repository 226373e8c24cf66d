"""`advbench verify`: recompute what a record claims from its checkpoint, or hold adversarial examples against it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.console import print_table, write_json
from advbench.benchmark.cli.options import (
    FAMILIES,
    FILE,
    OUT_FILE,
    POSITIVE,
    RUN,
    Where,
    attacks_option,
    either_checkpoint,
    gather,
    where_options,
)
from advbench.benchmark.cli.read_records import RecordRef, weights_option
from advbench.benchmark.files import file_sha256

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.records.schema import CheckpointName, Record
    from advbench.benchmark.review.counterexamples import Judgement
    from advbench.benchmark.review.reproduce import Claim, FlagClaim, Verifier

_LISTED = 20
"""Of the fallen images, this many are listed in the terminal."""


@dataclass(frozen=True)
class Extent:
    """What is repeated: which attacks, on how many random images (None: all), and the seed of that sample."""

    families: tuple[str, ...]
    count: int | None
    draw: int


@click.command(short_help="Recompute what a record claims.")
@gather("ref", RecordRef, click.argument("record", metavar="RECORD", type=RUN), either_checkpoint, weights_option)
@gather(
    "extent",
    Extent,
    attacks_option,
    click.option("--sample", "count", type=POSITIVE, help="Only N random images (AutoAttack: shards)."),
    click.option("--draw", default=0, show_default=True, help="Which random sample."),
)
@click.option(
    "--adversarial",
    type=FILE,
    metavar="FILE.npz",
    help="Judge these adversarial examples instead: x_adv and index.",
)
@click.option("--threads", type=POSITIVE, help="Threads of torch.  [default: as measured]")
@click.option("--out", type=OUT_FILE, help="Write the verdicts as JSON.")
@where_options
def verify(
    *, ref: RecordRef, extent: Extent, adversarial: Path | None, threads: int | None, out: Path | None, where: Where
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
      advbench verify leaderboards/records/digits-linf-2/trades/seed0.json --weights best.safetensors --checkpoint best
      advbench verify 3fa9 --adversarial found.npz --out verdict.json
    """
    import torch

    from advbench.benchmark.data import registry
    from advbench.benchmark.models import weight_files
    from advbench.benchmark.review import counterexamples, reproduce
    from advbench.benchmark.runs.environment import describe

    claimed, folder = ref.read(where.store_root)
    if adversarial is not None and (extent.families or extent.count):
        raise Refused("--adversarial judges given examples: leave out --attack and --sample")
    if extent.count and "examination" in extent.families:
        raise Refused("flags are judged on the whole test set: leave out --sample, or --attack examination")
    protocol, device = claimed.protocol, where.torch_device()
    torch.set_num_threads(threads or reproduce.threads(claimed) or torch.get_num_threads())
    dataset = registry.load(protocol.data, root=where.data_root, device=device)
    reproduce.check_provenance(claimed, protocol, dataset.test, dataset.provenance.digest)

    def opened(name: "CheckpointName") -> "Verifier":
        path = ref.find_weights(claimed, name, folder)
        network = weight_files.load(
            path,
            protocol.network,
            num_classes=dataset.num_classes,
            channels=dataset.shape[0],
            device=device,
        )
        return reproduce.Verifier(claimed, protocol, name, network, dataset.test, describe(device))

    if adversarial is not None:
        examples = counterexamples.read(adversarial, len(dataset.test), tuple(dataset.shape))
        name = _which(ref.checkpoint, examples.checkpoint)
        _judged(counterexamples.judge(examples, opened(name)), claimed, adversarial, out)
        return
    names = [name for name in claimed.checkpoints if ref.checkpoint in {name, "both"}]
    if not names:
        raise Refused(f"record {claimed.run} has no {ref.checkpoint} checkpoint")
    verifiers = [opened(name) for name in names]
    claims = [claim for verifier in verifiers for claim in _repeat(verifier, extent)]
    flags: list[FlagClaim] = []
    if extent.count is None and "examination" in (extent.families or FAMILIES):
        for verifier in verifiers:
            if verifier.probed:
                peers = _peers(claimed, where)
                flags += verifier.repeat_flags(peers, partial(_show_shard, f"{verifier.name}: masking probes"))
    _report(claimed, claims, flags, out)


def _report(record: "Record", claims: "list[Claim]", flags: "list[FlagClaim]", out: Path | None) -> None:
    """Show what came out."""
    if not claims and not flags:
        raise Refused(f"record {record.run} claims none of these attacks")
    if out is not None:
        write_json([*(claim.to_plain() for claim in claims), *(claim.to_plain() for claim in flags)], out, err=True)
    if claims:
        rows = [
            (
                claim.checkpoint,
                claim.column,
                len(claim.images),
                f"{claim.claimed.mean():.2%}",
                f"{claim.found.mean():.2%}",
                claim.message,
            )
            for claim in claims
        ]
        print_table(
            ("checkpoint", "column", "images", "claimed", "found", "verdict"), rows, right=["images", "claimed"]
        )
    if flags:
        shown = [(claim.checkpoint, claim.flag, claim.claimed, claim.found, claim.verdict) for claim in flags]
        print_table(("checkpoint", "flag", "claimed", "found", "verdict"), shown)
    wrong = [f"{claim.checkpoint} {claim.column}" for claim in claims if claim.verdict == "different"]
    wrong += [f"{claim.checkpoint} flag {claim.flag}" for claim in flags if claim.verdict == "different"]
    if wrong:
        raise Failed(f"record {record.run} is NOT what comes out: {', '.join(wrong)}")
    equal = all(claim.verdict == "equal" for claim in claims)
    click.echo(f"record {record.run}: {'equal to the bit' if equal else 'equal within tolerance'}")


def _which(asked: str, named: "CheckpointName | None") -> "CheckpointName":
    """Return the checkpoint that examples are for: the file's, the option's, or best."""
    if named is not None and asked not in {named, "both"}:
        raise Refused(f"the file is for {named}, --checkpoint says {asked}: name the same, or none")
    return named or ("last" if asked == "last" else "best")


def _judged(found: "Judgement", record: "Record", file: Path, out: Path | None) -> None:
    """Show what examples do to a record."""
    from advbench.benchmark.review.counterexamples import CLOSE

    threat = record.protocol.threat
    counted = "every attack" if found.column == "worst" else "AutoAttack"
    click.echo(
        f"{found.examples} examples for {found.checkpoint} of {record.method.row} seed {record.seed} under "
        f"{record.protocol_name}, {threat.text}, the farthest {found.farthest:.8g} away"
    )
    click.echo(
        f"{found.fooled} fool the network; {len(found.fallen)} of the {found.claimed} images fall that the record "
        f"counts as robust ({counted})"
    )
    rows = [(image.index, image.label, image.predicted, f"{image.margin:.3g}") for image in found.fallen[:_LISTED]]
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
    facts |= {"method": record.method.row, "seed": str(record.seed), "norm": threat.norm, "eps": str(threat.eps)}
    if out is not None:
        write_json({**facts, "file_sha256": file_sha256(file), **found.to_plain()}, out, err=True)
    if found.fallen:
        raise Failed(f"record {record.run}: {len(found.fallen)} images that it counts as robust fall: too weak")
    click.echo(f"record {record.run} stands: none of these examples fools it on an image that it counts as robust")


def _peers(record: "Record", where: Where) -> "dict[str, torch.nn.Module]":
    """Return the peers of a run of the store, as its masking probes had them; none for a record from elsewhere."""
    from advbench.benchmark.runs.open_checkpoint import open_run
    from advbench.benchmark.runs.store import StoreError

    try:
        where.store.find(record.run)
    except StoreError:
        return {}
    device = where.torch_device()
    return {
        f"{trained.method.name} {trained.checkpoints['best'].sha256}": open_run(peer, "best", device).network
        for peer, trained in where.store.peers(record.protocol)
        if peer.id != record.run
    }


def _show_shard(work: str, shard: int) -> None:
    click.echo(f"{work}, shard {shard}", err=True)


def _repeat(verifier: "Verifier", extent: Extent) -> "list[Claim]":
    """Repeat the attacks that are wanted, or a sample of them."""
    from advbench.benchmark.review.reproduce import sample

    size, test = verifier.protocol.attacks.shard, len(verifier.split)
    claims: list[Claim] = []
    for family in verifier.families(extent.families or FAMILIES):
        work = f"{verifier.name}: {family}"
        if extent.count is None:
            every = range(-(-test // size))
            claims += verifier.repeat_shards(family, every, partial(_show_shard, work))
            continue
        images, shards = sample(test, size, extent.count, extent.draw)
        click.echo(f"{work}, a sample", err=True)
        whole = family == "autoattack"
        claims += verifier.repeat_shards(family, shards) if whole else verifier.repeat_images(family, images)
    return claims
