"""Attack a random sample of a submission again, from its checkpoint: outcomes that were invented do not come back."""

import random
from pathlib import Path
from typing import Literal

import torch

from advbench.benchmark.data import registry
from advbench.benchmark.models import architectures, weight_files
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Record
from advbench.benchmark.review.consistency import Remark, name
from advbench.benchmark.review.reproduce import Verifier
from advbench.benchmark.runs.environment import describe
from advbench.benchmark.runs.run_folder import RunFolder

Extent = Literal["quick", "full"]
FAMILIES: dict[Extent, tuple[str, ...]] = {
    "quick": ("clean", "pgd", "cw"),
    "full": ("clean", "pgd", "cw", "autoattack"),
}
"""What is repeated: of a CIFAR shard AutoAttack alone costs some twenty times the rest."""


def reattack(
    folder: RunFolder,
    record: Record,
    *,
    data_root: Path | None,
    device: torch.device,
    draw: random.Random,
    extent: Extent = "quick",
) -> tuple[Remark, ...]:
    """Repeat attacks on one random shard of each checkpoint whose weights are there, until one does not come back.

    Only weights are loaded, as safetensors, into a network of the protocol's: no submitted code runs.
    """
    there = [one for one in record.checkpoints if folder.weights(one).exists()]
    if not there:
        said = "its weights are not there (`submit --weights` takes them along): nothing was attacked again"
        return (Remark("not attacked again", "suspicious", name(record), said),)
    protocol = Protocol.from_plain(record.protocol, "its protocol")
    dataset = registry.load(protocol.data, root=data_root, device=device)
    if (dataset.provenance.digest, dataset.provenance.test) != (record.data.digest, record.data.test):
        said = f"the data here ({dataset.provenance.source}) are others: nothing was attacked again"
        return (Remark("not attacked again", "suspicious", name(record), said),)
    here = describe(device)
    for one in there:
        network = architectures.build(protocol.network, num_classes=dataset.num_classes, channels=dataset.shape[0])
        network = weight_files.load_weights(network, folder.weights(one)).to(device).eval()
        verifier = Verifier(record, protocol, one, network, dataset.test, here)
        shard = draw.randrange(protocol.shards(record.data.test))
        for family in verifier.families(FAMILIES[extent]):
            found = tuple(
                Remark("outcomes not reproduced", "refused", f"{name(record)}, {one}", f"{claim.column}: {claim.said}")
                for claim in verifier.shards(family, [shard])
                if claim.verdict == "different"
            )
            if found:
                return found
    return ()
