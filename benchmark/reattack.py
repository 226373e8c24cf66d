"""Attack a random sample of a submission again, from its checkpoint: outcomes that were invented do not come back."""

import random
from pathlib import Path

import torch

from advbench.benchmark import checkpoint, data, networks
from advbench.benchmark.bundle import Bundle
from advbench.benchmark.evaluator import evaluate_shard
from advbench.benchmark.plan import shard_count
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records import Bits, Record
from advbench.benchmark.validation import Remark, name

FAMILIES = ("clean", "pgd")
TOLERANCE = 0.01
"""Share of images that may differ: another device rounds otherwise. One always may."""


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
    for one in there:
        shard = draw.randrange(shard_count(protocol, record.data.test))
        first = shard * protocol.attacks.shard
        index = torch.arange(first, min(first + protocol.attacks.shard, record.data.test))
        x, y, _ = next(iter(dataset.test.batches(len(index), index)))
        network = networks.build(protocol.network, num_classes=dataset.num_classes, channels=dataset.shape[0])
        network = checkpoint.load_weights(network, folder.weights(one)).to(device).eval().requires_grad_(False)
        columns: dict[str, Bits] = {}
        for family in FAMILIES:
            result = evaluate_shard(
                network,
                x,
                y,
                first=first,
                family=family,
                protocol=protocol,
                seed=record.seed,
                num_classes=dataset.num_classes,
                peers={},
            )
            columns |= result.columns
        for column, again in columns.items():
            claimed = record.checkpoints[one].evaluation.columns[column].correct[first : first + len(index)]
            differing = int((claimed != again).sum())
            if differing > max(1, TOLERANCE * len(index)):
                said = f"{column}: {differing} of {len(index)} images come out otherwise than recorded"
                found.append(Remark("outcomes not reproduced", "refused", f"{name(record)}, {one}", said))
    return tuple(found)
