"""Attack a random sample of a submission again, from its checkpoint: outcomes that were invented do not come back."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from advbench.benchmark.data import registry
from advbench.benchmark.models import weight_files
from advbench.benchmark.records.schema import Record
from advbench.benchmark.review.consistency import name
from advbench.benchmark.review.finding import Finding
from advbench.benchmark.review.reproduce import Verifier, threads
from advbench.benchmark.runs.environment import describe
from advbench.benchmark.runs.run_folder import RunFolder

REPEATED = {"none": (), "quick": ("clean", "pgd", "cw"), "full": ("clean", "pgd", "cw", "autoattack")}
"""What is repeated; of a CIFAR shard AutoAttack, the column that ranks, costs some twenty times the rest."""


@dataclass(frozen=True)
class Sample:
    """How a sample is attacked again.

    Attributes:
        draw: chooses the shard.
    """

    extent: Literal["none", "quick", "full"]
    data_root: Path | None
    device: torch.device
    draw: random.Random

    def reattack(self, folder: RunFolder, record: Record) -> tuple[Finding, ...]:
        """Repeat attacks on one random shard of each checkpoint whose weights are there, until one is different.

        Only weights are loaded, as safetensors, into a network of the protocol's: no submitted code runs.
        """
        return tuple(self._findings(folder, record)) if REPEATED[self.extent] else ()

    def _findings(self, folder: RunFolder, record: Record) -> Iterator[Finding]:
        checkpoints = [checkpoint for checkpoint in record.checkpoints if folder.weights(checkpoint).exists()]
        if not checkpoints:
            message = "its weights are not there (`submit --weights` takes them along): nothing was attacked again"
            yield Finding("not attacked again", "suspicious", name(record), message)
            return
        protocol = record.protocol
        dataset = registry.load(protocol.data, root=self.data_root, device=self.device)
        if (dataset.provenance.digest, dataset.provenance.test) != (record.data.digest, record.data.test):
            message = f"the data here ({dataset.provenance.source}) are others: nothing was attacked again"
            yield Finding("not attacked again", "suspicious", name(record), message)
            return
        torch.set_num_threads(threads(record) or torch.get_num_threads())
        here = describe(self.device)
        for checkpoint in checkpoints:
            network = weight_files.load(
                folder.weights(checkpoint),
                protocol.network,
                num_classes=dataset.num_classes,
                channels=dataset.shape[0],
                device=self.device,
            )
            verifier = Verifier(record, protocol, checkpoint, network, dataset.test, here)
            shard = self.draw.randrange(protocol.shards(record.data.test))
            for family in verifier.families(REPEATED[self.extent]):
                claims = verifier.repeat_shards(family, [shard])
                for claim in claims:
                    place, message = f"{name(record)}, {checkpoint}", f"{claim.column}: {claim.message}"
                    if claim.verdict == "different":
                        yield Finding("outcomes not reproduced", "refused", place, message)
                    elif claim.verdict == "within tolerance":
                        yield Finding("outcomes differ a little", "note", place, message)
                if any(claim.verdict == "different" for claim in claims):
                    return
