"""Estimate what jobs will take: from what the same work took in this store, or else from counted passes. Torch-free.

Every figure says where it comes from. Measured seconds hold for the machine that measured them; seconds from passes
rest on a speed that the caller assumes, and are good to a factor of a few at most.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.plan import Catalogue, sizes
from advbench.benchmark.runs.run_folder import RunFolder, StoreError
from advbench.benchmark.runs.store import Store

Basis = Literal["measured", "scaled", "assumed", "unknown"]
"""Measured on this very work; scaled from other work on the same network by passes; from an assumed speed; unknown."""
AUTOATTACK_BASE, AUTOATTACK_SURVIVOR = 100.0, 9_700.0
"""Forwards per test image, and those that an image takes which survives everything: what falls early costs little. On
networks with 49 and 25 of 100 images left, AutoAttack took 4,860 and 2,455 forwards an image."""
ROBUST = 0.49
"""Share of survivors of a network that was trained against an adversary, where none like it has been trained yet."""
NO_ADVERSARY = 3.0
"""Forwards per training image of methods that never attack: nothing of their networks survives."""
DEFAULT_FORWARDS = 23.0
"""Forwards per training image of PGD-AT, for methods that do not state theirs."""


@dataclass(frozen=True)
class Machine:
    """What the caller assumes of the machine, where nothing was measured.

    Attributes:
        seconds: of a forward F of one image, by network name.
        parameters: parameters by network name.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """Seconds of one job, None where nothing is known, and what they rest on."""

    seconds: float | None
    basis: Basis


@dataclass
class History:
    """What work took so far in a store."""

    training: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)
    """Seconds of training by protocol digest, method and epochs."""
    attacks: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Seconds per shard by protocol digest and family."""
    rates: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    """Seconds per forward of an image by network, data set and kind of job."""
    sizes: dict[str, list[int]] = field(default_factory=dict)
    """Bytes of a trained run by network."""
    robust: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Best robust accuracy on validation images by protocol digest and method."""
    trained: list[tuple[RunSpec, float]] = field(default_factory=list)
    """Runs with the seconds of their training."""

    def add(self, folder: RunFolder) -> None:
        """Take in one run."""
        scan, protocol = folder.scan(), folder.spec.protocol
        if scan.trained is None:
            return
        place, digest = (protocol.network, protocol.data.name), protocol.digest
        record = scan.trained.training
        if record.diverged is None and record.seconds:
            self.trained.append((folder.spec, record.seconds))
            key = digest, folder.spec.method, record.epochs
            self.training.setdefault(key, []).append(record.seconds)
            if record.curve:
                best = max(row.robust or 0.0 for row in record.curve)
                self.robust.setdefault((digest, folder.spec.method), []).append(best)
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


def passes(job: Job, catalogue: Catalogue, known: History | None = None) -> float | None:
    """Return the forwards F that a job is expected to make; None for data of unknown size."""
    protocol = job.run.protocol
    counts = sizes(protocol.data)
    facts = catalogue.get(job.run.method)
    each = (facts.forwards if facts is not None else None) or DEFAULT_FORWARDS
    if job.kind == "train":
        if counts is None:
            return None
        attacks = 2 if protocol.selection.measure == "worst" else 1
        validation = protocol.data.validation * (attacks * (2 * protocol.selection.steps + 1) + 1)
        return job.run.training.training.epochs * (counts[0] * each + validation)
    images = min(len(job.shards) * protocol.attacks.shard, counts[1] if counts is not None else 1 << 62)
    if not images:
        return None
    trained = known.robust.get((protocol.digest, job.run.method)) if known is not None else None
    robust = median(trained) if trained else ROBUST if each > NO_ADVERSARY else 0.0
    return images * _per_image(str(job.family), protocol, robust)


def _per_image(family: str, protocol: Protocol, robust: float) -> float:
    """Return the forwards of an attack on an image of which a share of `robust` survives."""
    attacks, flags = protocol.attacks, protocol.flags
    if family == "autoattack":
        further = 0.0
        if flags.convergence_every:
            restarts = flags.convergence_targets * flags.convergence_restarts
            further = 2.0 * restarts * flags.convergence_iterations / flags.convergence_every
        return AUTOATTACK_BASE + robust * (AUTOATTACK_SURVIVOR + further)
    known = {"clean": 1.0, "pgd": 2.0 * attacks.pgd100.steps + 3, "cw": 2.0 * attacks.cw.steps + 2}
    return known.get(family, 2.0 * attacks.pgd100.steps)


def estimate(job: Job, catalogue: Catalogue, known: History, machine: Machine) -> Estimate:
    """Return what one job will take."""
    protocol = job.run.protocol
    if job.kind == "train":
        same = known.training.get((protocol.digest, job.run.method, job.run.training.training.epochs))
        if same:
            return Estimate(median(same), "measured")
    else:
        same = known.attacks.get((protocol.digest, str(job.family)))
        if same and job.shards:
            return Estimate(median(same) * len(job.shards), "measured")
    forwards = passes(job, catalogue, known)
    if forwards is None:
        return Estimate(None, "unknown")
    rates = known.rates.get((protocol.network, protocol.data.name, job.kind))
    if rates:
        return Estimate(median(rates) * forwards, "scaled")
    if protocol.network in machine.seconds:
        return Estimate(forwards * machine.seconds[protocol.network], "assumed")
    return Estimate(None, "unknown")


def past(known: History, catalogue: Catalogue, machine: Machine) -> tuple[float, ...]:
    """Return how many times as long as estimated from passes and this machine's speed each training here took."""
    found = []
    for run, seconds in known.trained:
        each = machine.seconds.get(run.protocol.network)
        forwards = passes(Job("train", run), catalogue)
        if each and forwards:
            found.append(seconds / (forwards * each))
    return tuple(sorted(found))


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
