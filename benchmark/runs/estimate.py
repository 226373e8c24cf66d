"""Estimate what jobs will take: from what the same work took in this store, or else from counted passes. Torch-free.

Every figure says where it comes from. Measured seconds hold for the machine that measured them; seconds from passes
rest on a speed that the caller assumes, and are good to a factor of a few at most.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.plan import Catalogue, sizes
from advbench.benchmark.runs.run_folder import RunFolder, StoreError
from advbench.benchmark.runs.store import Store

Basis = Literal["measured", "scaled", "assumed", "unknown"]
"""Measured on this very work; scaled from other work on the same network by passes; from an assumed speed; unknown."""
AUTOATTACK_FORWARDS = 4_860.0
"""Forwards per test image of a network with 82 % clean and 49 % robust accuracy; the cost grows with the survivors."""
DEFAULT_FORWARDS = 23.0
"""Forwards per training image of PGD-AT, for methods that do not state theirs."""


@dataclass(frozen=True)
class Machine:
    """What the caller assumes of the machine, where nothing was measured.

    Attributes:
        forward_flop: FLOP of a forward of one image, by network name.
        flop_per_second: what the machine is assumed to sustain.
        parameters: parameters by network name.
    """

    forward_flop: Mapping[str, float] = field(default_factory=dict)
    flop_per_second: float = 0.0
    parameters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """Seconds of one job, None where nothing is known, and what they rest on."""

    seconds: float | None
    basis: Basis


@dataclass
class History:
    """What work took so far in a store."""

    training: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Seconds of training by protocol digest and method."""
    attacks: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Seconds per shard by protocol digest and family."""
    rates: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    """Seconds per forward of an image by network, data set and kind of job."""
    sizes: dict[str, list[int]] = field(default_factory=dict)
    """Bytes of a trained run by network."""

    def add(self, folder: RunFolder) -> None:
        """Take in one run."""
        scan, protocol = folder.scan(), folder.spec.protocol
        if scan.trained is None:
            return
        place, digest = (protocol.network, protocol.data.name), protocol.digest
        record = scan.trained.training
        if record.diverged is None and record.seconds:
            self.training.setdefault((digest, folder.spec.method), []).append(record.seconds)
            if record.passes.forwards:
                self.rates.setdefault((*place, "train"), []).append(record.seconds / record.passes.forwards)
        for (_, family), shards in scan.shards.items():
            for cost in shards.values():
                self.attacks.setdefault((digest, family), []).append(cost.seconds)
                if cost.forwards:
                    self.rates.setdefault((*place, "evaluate"), []).append(cost.seconds / cost.forwards)
        self.sizes.setdefault(protocol.network, []).append(_bytes(folder))


def history(store: Store) -> History:
    """Return what work took so far in a store."""
    known = History()
    for folder in store.folders():
        try:
            known.add(folder)
        except StoreError:
            continue  # not a run of this version
    return known


def passes(job: Job, catalogue: Catalogue) -> float | None:
    """Return the forwards F that a job is expected to make; None for data of unknown size."""
    protocol = job.run.protocol
    counts = sizes(protocol.data)
    if job.kind == "train":
        if counts is None:
            return None
        facts = catalogue.get(job.run.method)
        each = (facts.forwards if facts is not None else None) or DEFAULT_FORWARDS
        validation = protocol.data.validation * (2 * protocol.selection.steps + 2)
        return protocol.training.epochs * (counts[0] * each + validation)
    images = min(len(job.shards) * protocol.attacks.shard, counts[1] if counts is not None else 1 << 62)
    if not images:
        return None
    return images * _per_image(str(job.family), protocol)


def _per_image(family: str, protocol: Protocol) -> float:
    attacks = protocol.attacks
    known = {
        "clean": 1.0,
        "pgd": 2.0 * attacks.pgd100.steps + 3,
        "cw": 2.0 * attacks.cw.steps + 2,
        "autoattack": AUTOATTACK_FORWARDS,
    }
    return known.get(family, 2.0 * attacks.pgd100.steps)


def estimate(job: Job, catalogue: Catalogue, known: History, machine: Machine) -> Estimate:
    """Return what one job will take."""
    protocol = job.run.protocol
    if job.kind == "train":
        same = known.training.get((protocol.digest, job.run.method))
        if same:
            return Estimate(median(same), "measured")
    else:
        same = known.attacks.get((protocol.digest, str(job.family)))
        if same and job.shards:
            return Estimate(median(same) * len(job.shards), "measured")
    forwards = passes(job, catalogue)
    if forwards is None:
        return Estimate(None, "unknown")
    rates = known.rates.get((protocol.network, protocol.data.name, job.kind))
    if rates:
        return Estimate(median(rates) * forwards, "scaled")
    flop = machine.forward_flop.get(protocol.network)
    if flop and machine.flop_per_second:
        return Estimate(forwards * flop / machine.flop_per_second, "assumed")
    return Estimate(None, "unknown")


def disk(jobs: Iterable[Job], known: History, machine: Machine) -> int | None:
    """Return the bytes that jobs will take on disk; None where the size of a network is not known."""
    needed = [_run_bytes(job.run.protocol.network, known, machine) for job in jobs if job.kind == "train"]
    return None if None in needed else sum(size or 0 for size in needed)


def _run_bytes(network: str, known: History, machine: Machine) -> int | None:
    """Return the bytes of a run: the largest so far, or two checkpoints and two resume files with momentum, fp32."""
    if known.sizes.get(network):
        return max(known.sizes[network])
    if network in machine.parameters:
        return 6 * 4 * machine.parameters[network]
    return None


def _bytes(folder: RunFolder) -> int:
    return sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file() and not path.is_symlink())
