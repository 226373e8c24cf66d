"""Plan: a suite minus what the store holds is the jobs to do, prerequisite teachers included. Torch-free.

What planning must know of a method is plain data (`MethodFacts`), handed in by who can load methods.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from advbench.benchmark.protocol import Data, Protocol
from advbench.benchmark.records.schema import CHECKPOINTS, FAMILIES, CheckpointName, Scalar
from advbench.benchmark.runs.failure import Failure
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.run_folder import RunFolder, Trained
from advbench.benchmark.runs.store import PEER_SEED, PEERS, Store

State = Literal["done", "running", "missing", "failed", "blocked"]
OFFICIAL_SIZES = {
    "digits": (1_797, 0),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tinyimagenet": (100_000, 10_000),
    "imagenet": (1_281_167, 50_000),
}
"""Training and test images as published; the digits' test set is cut from its one set as the protocol says."""


class PlanError(ValueError):
    """A suite that cannot be planned; the message is one line with the mend."""


@dataclass(frozen=True)
class MethodFacts:
    """What planning needs to know of a method.

    Attributes:
        hyperparameters: every hyper-parameter with its default.
        requires: frozen teachers, role → method name.
        forwards: passes per training image in forwards F, or None where the method does not say.
    """

    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)
    forwards: float | None = None


Catalogue = Mapping[str, MethodFacts]


@dataclass(frozen=True)
class MethodRequest:
    """A method with the hyper-parameters that differ from its defaults: one row of a board."""

    name: str
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What is wanted: every method under every protocol with every seed. No seeds: each protocol's own."""

    protocols: tuple[Protocol, ...]
    methods: tuple[MethodRequest, ...]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """A run the suite needs. A teacher that is no row of the suite is trained but not evaluated."""

    spec: RunSpec
    id: str
    evaluated: bool


@dataclass(frozen=True)
class WorkStatus:
    """Where one piece of work stands.

    Attributes:
        job: training, or the missing shards of one family on one checkpoint (all of them when it is done).
        state: "blocked" waits for another job, or forever if `possible` is False.
        reason: why it is in that state, in words; empty for done and missing.
        done, total: units of work (shards; 1 for training); total is 0 where the size of the test set is not known yet.
        possible: False where nothing that is planned will ever make it possible.
        log: the log of the job that failed.
    """

    job: Job
    state: State
    reason: str = ""
    done: int = 0
    total: int = 1
    possible: bool = True
    log: str = ""


def complete(name: str, changed: Mapping[str, Scalar], catalogue: Catalogue) -> dict[str, Scalar]:
    """Return all hyper-parameters of a method, the changed ones in the type of their default.

    Raises:
        PlanError: for a method or hyper-parameter that there is not, or a value of the wrong type.
    """
    if name not in catalogue:
        raise PlanError(f"no method {name!r}; there are: {', '.join(sorted(catalogue))}")
    values = dict(catalogue[name].hyperparameters)
    for key, value in changed.items():
        if key not in values:
            raise PlanError(f"{name} has no hyper-parameter {key!r}; it has: {', '.join(values) or 'none'}")
        default = values[key]
        if type(default) is float and type(value) is int:
            value = float(value)  # noqa: PLW2901 (3 and 3.0 must name the same run)
        if type(value) is not type(default):
            wanted = type(default).__name__
            raise PlanError(f"{name}.{key} must be of type {wanted}, as its default {default!r}; got {value!r}")
        values[key] = value
    return values


def runs(suite: Suite, catalogue: Catalogue) -> tuple[PlannedRun, ...]:
    """Return every run that the suite needs, once, teachers before their students.

    Runs come by protocol, then seed, so that a board fills seed by seed.

    Raises:
        PlanError: for unknown methods or hyper-parameters, and teachers that need each other.
    """
    found: dict[str, PlannedRun] = {}
    for protocol in suite.protocols:
        for seed in suite.seeds or protocol.seeds:
            group = _Group(protocol, seed, catalogue, found)
            for request in suite.methods:
                group.add(request)
    return tuple(found.values())


@dataclass(frozen=True)
class _Group:
    """The runs under one protocol and seed: teachers are theirs alone."""

    protocol: Protocol
    seed: int
    catalogue: Catalogue
    found: dict[str, PlannedRun]
    teachers: dict[str, str] = field(default_factory=dict)

    def add(self, request: MethodRequest, students: tuple[str, ...] = ()) -> str:
        """Add a run, and before it its teachers; return its id."""
        chain = (*students, request.name)
        if request.name in students:
            raise PlanError(f"teachers need each other: {' → '.join(chain)}")
        hyperparameters = complete(request.name, request.hyperparameters, self.catalogue)
        teachers = {}
        for role, teacher in sorted(self.catalogue[request.name].requires.items()):
            if teacher not in self.teachers:
                self.teachers[teacher] = self.add(MethodRequest(teacher), chain)
            teachers[role] = self.teachers[teacher]
        spec = RunSpec(self.protocol, request.name, hyperparameters, self.seed, teachers)
        identity = spec.id
        is_row = not students or (identity in self.found and self.found[identity].evaluated)
        self.found[identity] = PlannedRun(spec, identity, evaluated=is_row)
        return identity


def sizes(data: Data) -> tuple[int, int] | None:
    """Return training and test images as officially published, lists and limits applied; None for unknown data."""
    if data.name not in OFFICIAL_SIZES:
        return None
    train, test = OFFICIAL_SIZES[data.name]
    train = data.train_list.images if data.train_list else train
    test = data.test_list.images if data.test_list else test
    if data.test:
        train, test = train - data.test, data.test
    train -= data.validation
    return min(train, data.train_limit or train), min(test, data.test_limit or test)


def survey(
    suite: Suite, store: Store, catalogue: Catalogue, *, max_shards_per_job: int | None = None
) -> Iterator[WorkStatus]:
    """Yield where every piece of work of a suite stands; each run folder is read once.

    Under one protocol and seed all training comes first, then the attacks, AutoAttack at the front: the longest pieces
    of work start earliest, and the short ones fill the end.

    Args:
        suite: what is wanted.
        store: what there is.
        catalogue: the methods.
        max_shards_per_job: cut the missing shards of a family into jobs of at most so many (for clusters).
    """
    surveyor = _Surveyor(max_shards_per_job)
    for _, group in itertools.groupby(runs(suite, catalogue), lambda run: (run.spec.protocol.name, run.spec.seed)):
        looks = []
        for run in group:
            looks.append(_Look(run, store.folder(run.spec)))
            yield surveyor.training(looks[-1])
        for look in looks:
            if look.run.evaluated:
                yield from surveyor.attacks(look)


def plan(suite: Suite, store: Store, catalogue: Catalogue, *, max_shards_per_job: int | None = None) -> tuple[Job, ...]:
    """Return the jobs to do, each after those it needs; what failed is tried again, what others do is waited for."""
    standings = survey(suite, store, catalogue, max_shards_per_job=max_shards_per_job)
    jobs = [standing.job for standing in standings if standing.state != "done" and standing.possible]
    there = {job.id for job in jobs}
    return tuple(dataclasses.replace(job, after=tuple(one for one in job.after if one in there)) for job in jobs)


class _Look:
    """One run and what was found in its folder."""

    def __init__(self, run: PlannedRun, folder: RunFolder) -> None:
        self.run, self.folder, self.scan = run, folder, folder.scan()


class _Surveyor:
    """Says where work stands, run after run; remembers what that means for the runs that come later."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.impossible: dict[str, str] = {}
        """Runs that can never be trained, or never be a teacher → why."""
        self.untrained: set[str] = set()
        self.peers: dict[str, list[str]] = {}
        """Training of peers that is not done, by protocol digest: examinations wait for it."""

    def training(self, look: _Look) -> WorkStatus:
        """Return where training stands."""
        run, scan = look.run, look.scan
        teachers = sorted(set(run.spec.teachers.values()))
        waits = tuple(f"{teacher}-train" for teacher in teachers if teacher in self.untrained)
        job = Job("train", run.spec, after=waits)
        if scan.trained is not None:
            if "best" not in scan.trained.checkpoints:
                self.impossible[run.id] = f"{run.spec.label} diverged before its first checkpoint"
            at = scan.trained.training.diverged
            said = "" if at is None else f"its loss was not finite at epoch {at.epoch}, step {at.step}"
            return WorkStatus(job, "done", said, done=1)
        self.untrained.add(run.id)
        if run.spec.method in PEERS and run.spec.seed == PEER_SEED:
            self.peers.setdefault(run.spec.protocol.digest, []).append(job.id)
        lost = next((self.impossible[teacher] for teacher in teachers if teacher in self.impossible), None)
        if lost is not None:
            self.impossible[run.id] = f"it needs a teacher, but {lost}"
            return WorkStatus(job, "blocked", self.impossible[run.id], possible=False)
        if "train" in scan.held:
            return WorkStatus(job, "running", scan.held["train"])
        failure = next((failure for failure in scan.failures if failure.kind == "train"), None)
        if failure is not None:
            return WorkStatus(job, "failed", failure.reason, log=failure.log)
        return WorkStatus(job, "blocked", "its teacher is not trained yet") if waits else WorkStatus(job, "missing")

    def attacks(self, look: _Look) -> Iterator[WorkStatus]:
        """Yield where the attacks on both checkpoints stand."""
        protocol, trained = look.run.spec.protocol, look.scan.trained
        digest = protocol.digest
        official = sizes(protocol.data)
        images = trained.data.test if trained is not None else official[1] if official is not None else 0
        for checkpoint in CHECKPOINTS:
            for family in reversed(FAMILIES):
                peers = tuple(self.peers.get(digest, ())) if family == "examination" else ()
                every = tuple(range(protocol.shards(images)))
                work = Job("evaluate", look.run.spec, checkpoint, family, every, peers)  # type: ignore[arg-type]
                if trained is None:
                    yield from self._ahead(look, work)
                elif checkpoint in trained.checkpoints:  # a run that diverged may lack it
                    yield from self._family(look, work, trained)

    def _ahead(self, look: _Look, work: Job) -> Iterator[WorkStatus]:
        """Yield where the attacks on a network stand that is not trained yet."""
        why = self.impossible.get(look.run.id)
        if why is not None:
            yield WorkStatus(work, "blocked", why, total=len(work.shards), possible=False)
            return
        for part in _cut(work.shards, self.most) or [()]:
            after = tuple(dict.fromkeys((f"{look.run.id}-train", *work.after)))
            job = dataclasses.replace(work, shards=part, after=after)
            yield WorkStatus(job, "blocked", "its network is not trained yet", total=len(part))

    def _family(self, look: _Look, work: Job, trained: Trained) -> Iterator[WorkStatus]:
        checkpoint, family = cast("tuple[CheckpointName, str]", (work.checkpoint, work.family))
        there = look.scan.shards.get((checkpoint, family), {})
        missing = tuple(shard for shard in work.shards if shard not in there)
        if not missing:
            yield WorkStatus(work, "done", done=len(work.shards), total=len(work.shards))
            return
        held = {}
        if look.scan.held:
            keys = {look.folder.work_key(checkpoint, family, shard, trained): shard for shard in missing}
            held = {keys[key]: who for key, who in look.scan.held.items() if key in keys}
        for number, part in enumerate(_cut(missing, self.most)):
            done = len(work.shards) - len(missing) if number == 0 else 0  # counted once, with the first part
            yield _measured(dataclasses.replace(work, shards=part), held, look.scan.failures, done)


def _measured(job: Job, held: Mapping[int, str], failures: tuple[Failure, ...], done: int) -> WorkStatus:
    """Return where some missing shards stand."""
    total = done + len(job.shards)
    for shard in job.shards:
        if shard in held:
            return WorkStatus(job, "running", held[shard], done=done, total=total)
    unit = (job.kind, job.checkpoint, job.family)
    for failure in failures:
        if failure.unit == unit and (not failure.shards or set(failure.shards) & set(job.shards)):
            return WorkStatus(job, "failed", failure.reason, done=done, total=total, log=failure.log)
    return WorkStatus(job, "missing", done=done, total=total)


def _cut(shards: tuple[int, ...], most: int | None) -> list[tuple[int, ...]]:
    """Cut shards into parts of at most `most`."""
    size = most or max(1, len(shards))
    return [shards[first : first + size] for first in range(0, len(shards), size)]
