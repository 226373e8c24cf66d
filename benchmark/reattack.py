"""Attack a random sample of a submission again, from its checkpoint: outcomes that were invented do not come back."""

import random
from pathlib import Path

import torch

from advbench.benchmark import checkpoint, data, networks
from advbench.benchmark.bundle import Bundle
from advbench.benchmark.environment import describe
from advbench.benchmark.plan import shard_count
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records import Record
from advbench.benchmark.validation import Remark, name
from advbench.benchmark.verification import Verifier

FAMILIES = ("clean", "pgd")


def reattack(
    bundle: Bundle, record: Record, *, data_root: Path | None, device: torch.device, draw: random.Random
) -> tuple[Remark, ...]:
    """Repeat clean and PGD on one random shard of each checkpoint whose weights are in the bundle.

    Only weights are loaded, as safetensors, into a network of the protocol's: no submitted code runs.
    """
    folder = bundle.run(record)
    if folder is None:
        return ()
    there = [one for one in record.checkpoints if folder.weights(one).exists()]
    if not there:
        said = "its weights are not in the bundle (submit --weights): nothing was attacked again"
        return (Remark("not attacked again", "suspicious", name(record), said),)
    protocol = Protocol.from_plain(record.protocol, "its protocol")
    dataset = data.load(protocol.data, root=data_root, device=device)
    if (dataset.provenance.digest, dataset.provenance.test) != (record.data.digest, record.data.test):
        said = f"the data here ({dataset.provenance.source}) are others: nothing was attacked again"
        return (Remark("not attacked again", "suspicious", name(record), said),)
    found = []
    here = describe(device)
    for one in there:
        network = networks.build(protocol.network, num_classes=dataset.num_classes, channels=dataset.shape[0])
        network = checkpoint.load_weights(network, folder.weights(one)).to(device).eval()
        verifier = Verifier(record, protocol, one, network, dataset.test, here)
        shard = draw.randrange(shard_count(protocol, record.data.test))
        for family in verifier.families(FAMILIES):
            found += [
                Remark("outcomes not reproduced", "refused", f"{name(record)}, {one}", f"{claim.column}: {claim.said}")
                for claim in verifier.shards(family, [shard])
                if claim.verdict == "different"
            ]
    return tuple(found)
