"""Plan: a suite minus what the store holds is the jobs to do, prerequisite teachers included. Torch-free.

What planning must know of a method is plain data (`MethodFacts`), handed in by who can load methods.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.protocol import Data, Protocol
from advbench.benchmark.recipe import Budget, Recipe
from advbench.benchmark.records.schema import CHECKPOINTS, FAMILIES, CheckpointName, Scalar
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.run_folder import RunFolder, Scan, Trained
from advbench.benchmark.runs.store import PEER_SEED, PEERS, Store

State = Literal["done", "running", "missing", "failed", "blocked"]


class PlanError(ValueError):
    """A suite that cannot be planned; the message is one line with the fix."""


@dataclass(frozen=True)
class MethodFacts:
    """What planning needs to know of a method.

    Attributes:
        hyperparameters: every hyper-parameter with its default.
        requires: frozen teachers, role → method name.
        forwards: passes per training image in forwards F, or None where the method does not say.
        tunable: hyper-parameters that tuning may set, each with its values.
        recipe: how the method's authors train, where they say so.
    """

    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)
    forwards: float | None = None
    tunable: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    recipe: Recipe | None = None


Catalogue = Mapping[str, MethodFacts]


@dataclass(frozen=True)
class MethodRequest:
    """A method with what differs from its defaults: one row of a board, or a trial; see `RunSpec`."""

    name: str
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    recipe: Recipe | None = None
    budget: Budget | None = None
    trial: bool = False


@dataclass(frozen=True)
class Suite:
    """What is wanted: every method under every protocol with every seed. No seeds: each protocol's own."""

    protocols: tuple[Protocol, ...]
    methods: tuple[MethodRequest, ...]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """A run the suite needs. A trial, or a teacher that is no row of the suite, is trained but not evaluated."""

    spec: RunSpec
    evaluated: bool


@dataclass(frozen=True)
class WorkStatus:
    """The status of one piece of work.

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
    teachers: dict[tuple[str, bool], str] = field(default_factory=dict)
    """Runs of teachers by method and whether they are for trials."""

    def add(self, request: MethodRequest, students: tuple[str, ...] = ()) -> str:
        """Add a run, and before it its teachers; return its id."""
        chain = (*students, request.name)
        if request.name in students:
            raise PlanError(f"teachers need each other: {' → '.join(chain)}")
        hyperparameters = complete(request.name, request.hyperparameters, self.catalogue)
        teachers = {}
        given = {teacher.role for teacher in self.protocol.teachers}
        for role, teacher in sorted(self.catalogue[request.name].requires.items()):
            if role in given:
                continue
            key = teacher, request.trial
            if key not in self.teachers:
                self.teachers[key] = self.add(MethodRequest(teacher, trial=request.trial), chain)
            teachers[role] = self.teachers[key]
        spec = RunSpec(
            self.protocol,
            request.name,
            hyperparameters,
            self.seed,
            teachers,
            recipe=None if request.recipe is None else self.protocol.differing(request.recipe),
            budget=request.budget,
            trial=request.trial,
        )
        if request.recipe and spec.recipe is None and not request.trial:
            hint = "without its own recipe it is the same run, of the closed division"
            raise PlanError(f"{request.name}: its recipe is that of {self.protocol.name}; {hint}")
        identity = spec.id
        is_row = not students or (identity in self.found and self.found[identity].evaluated)
        self.found[identity] = PlannedRun(spec, evaluated=is_row and not spec.trial)
        return identity


def sizes(data: Data) -> tuple[int, int] | None:
    """Return training and test images as officially published, lists and limits applied; None for unknown data."""
    if data.name not in KNOWN:
        return None
    train, test = KNOWN[data.name].images
    train = data.train_list.images if data.train_list else train
    test = data.test_list.images if data.test_list else test
    if data.test:
        train, test = train - data.test, min(data.test, train)
    train -= data.validation
    return min(train, data.train_limit or train), min(test, data.test_limit or test)


def survey(suite: Suite, store: Store, catalogue: Catalogue) -> Iterator[WorkStatus]:
    """Yield the status of every piece of work of a suite; each run folder is read once.

    Under one protocol and seed all training comes first, then the attacks, AutoAttack at the front: the longest pieces
    of work start earliest, and the short ones fill the end.
    """
    surveyor = _Surveyor()
    for _, group in itertools.groupby(runs(suite, catalogue), lambda run: (run.spec.protocol.name, run.spec.seed)):
        scans = []
        for run in group:
            folder = store.folder(run.spec)
            scans.append((run.evaluated, folder, folder.scan()))
            yield surveyor.training(run.spec, scans[-1][-1])
        for evaluated, folder, scan in scans:
            if evaluated:
                yield from surveyor.attacks(folder, scan)


def plan(suite: Suite, store: Store, catalogue: Catalogue) -> tuple[Job, ...]:
    """Return the jobs to do, each after those it needs; what failed is tried again, what others do is waited for."""
    jobs = [work.job for work in survey(suite, store, catalogue) if work.state != "done" and work.possible]
    there = {job.id for job in jobs}
    return tuple(dataclasses.replace(job, after=tuple(need for need in job.after if need in there)) for job in jobs)


def missing_attacks(folder: RunFolder, checkpoints: Collection[str], families: Iterable[str]) -> list[Job]:
    """Return the jobs of the shards of a trained run that were not attacked yet; those of `families` last first.

    Raises:
        PlanError: if the run is not trained.
    """
    trained = folder.trained()
    if trained is None:
        raise PlanError(f"{folder.spec.label} is not trained; `advbench train {folder.spec.method}` trains it")
    every = range(folder.spec.protocol.shards(trained.data.test))
    due: list[Job] = []
    seen: set[Path] = set()
    for checkpoint in trained.checkpoints:
        for family in reversed(tuple(families)):
            journal = folder.journal(checkpoint, family, trained)
            if checkpoint not in checkpoints or journal in seen:
                continue
            seen.add(journal)  # where `last` is `best` to the bit one attack serves both
            finished = folder.finished(checkpoint, family, trained)
            missing = tuple(shard for shard in every if shard not in finished)
            if missing:
                due.append(Job("evaluate", folder.spec, checkpoint, family, missing))  # type: ignore[arg-type]  # FAMILIES
    return due


class _Surveyor:
    """Tells the status of work, run after run; remembers what that means for the runs that come later."""

    def __init__(self) -> None:
        self.impossible: dict[str, str] = {}
        """Runs that can never be trained, or never be a teacher → why."""
        self.untrained: set[str] = set()
        self.peers: dict[str, list[str]] = {}
        """Training of peers that is not done, by protocol digest: examinations wait for it."""

    def training(self, spec: RunSpec, scan: Scan) -> WorkStatus:
        """Return the status of training."""
        teachers = sorted(set(spec.teachers.values()))
        waits = tuple(f"{teacher}-train" for teacher in teachers if teacher in self.untrained)
        job = Job("train", spec, after=waits)
        if scan.trained is not None:
            if "best" not in scan.trained.checkpoints:
                self.impossible[spec.id] = f"{spec.label} diverged before its first checkpoint"
            at = scan.trained.training.diverged
            reason = "" if at is None else f"its loss was not finite at epoch {at.epoch}, step {at.step}"
            return WorkStatus(job, "done", reason, done=1)
        self.untrained.add(spec.id)
        if spec.method in PEERS and spec.seed == PEER_SEED and spec.division == "closed":
            self.peers.setdefault(spec.protocol.digest, []).append(job.id)
        lost = next((self.impossible[teacher] for teacher in teachers if teacher in self.impossible), None)
        if lost is not None:
            self.impossible[spec.id] = f"it needs a teacher, but {lost}"
            return WorkStatus(job, "blocked", self.impossible[spec.id], possible=False)
        if "train" in scan.held:
            return WorkStatus(job, "running", scan.held["train"])
        failure = next((failure for failure in scan.failures if failure.kind == "train"), None)
        if failure is not None:
            return WorkStatus(job, "failed", failure.reason, log=failure.log)
        return WorkStatus(job, "blocked", "its teacher is not trained yet") if waits else WorkStatus(job, "missing")

    def attacks(self, folder: RunFolder, scan: Scan) -> Iterator[WorkStatus]:
        """Yield the status of each family of attacks on both checkpoints."""
        spec, trained = folder.spec, scan.trained
        official = sizes(spec.protocol.data)
        images = trained.data.test if trained is not None else official[1] if official is not None else 0
        shards = tuple(range(spec.protocol.shards(images)))
        for checkpoint in CHECKPOINTS:
            for family in reversed(FAMILIES):
                peers = tuple(self.peers.get(spec.protocol.digest, ())) if family == "examination" else ()
                work = Job("evaluate", spec, checkpoint, family, shards, peers)  # type: ignore[arg-type]  # FAMILIES
                if trained is None:
                    yield self._ahead(work)
                elif checkpoint in trained.checkpoints:  # a run that diverged may lack it
                    yield _status(work, folder, scan, trained)

    def _ahead(self, work: Job) -> WorkStatus:
        """Return the status of attacks on a network that is not trained yet."""
        why = self.impossible.get(work.run.id)
        if why is not None:
            return WorkStatus(work, "blocked", why, total=len(work.shards), possible=False)
        job = dataclasses.replace(work, after=tuple(dict.fromkeys((f"{work.run.id}-train", *work.after))))
        return WorkStatus(job, "blocked", "its network is not trained yet", total=len(work.shards))


def _status(work: Job, folder: RunFolder, scan: Scan, trained: Trained) -> WorkStatus:
    """Return the status of one family of attacks on a trained checkpoint."""
    checkpoint, family, total = cast("CheckpointName", work.checkpoint), str(work.family), len(work.shards)
    missing = tuple(shard for shard in work.shards if shard not in scan.shards.get((checkpoint, family), {}))
    done = total - len(missing)
    if not missing:
        return WorkStatus(work, "done", done=done, total=total)
    job = dataclasses.replace(work, shards=missing)
    for shard in missing if scan.held else ():
        key = folder.work_key(checkpoint, family, shard, trained)
        if key in scan.held:
            return WorkStatus(job, "running", scan.held[key], done=done, total=total)
    for failure in scan.failures:
        same = failure.unit == (job.kind, job.checkpoint, job.family)
        if same and (not failure.shards or set(failure.shards) & set(missing)):
            return WorkStatus(job, "failed", failure.reason, done=done, total=total, log=failure.log)
    return WorkStatus(job, "missing", done=done, total=total)
