"""Do one job: the body of `advbench job FILE`, the same for every executor.

A job may be killed at any moment: training goes on from its last epoch, an evaluation from its last shard. In an
evaluation no code of a method runs: it gets weights and the name of an architecture.
"""

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from advbench.benchmark import discovery, protocol
from advbench.benchmark.data import registry
from advbench.benchmark.data.registry import Dataset
from advbench.benchmark.evaluation import evaluator
from advbench.benchmark.files import file_sha256, write_bytes
from advbench.benchmark.method import Method
from advbench.benchmark.models import weight_files
from advbench.benchmark.records.schema import CheckpointName, Epoch, MethodIdentity, Teacher, TrainingRecord
from advbench.benchmark.runs import environment
from advbench.benchmark.runs.build_record import build_record
from advbench.benchmark.runs.external_teachers import external_teachers
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.plan import MethodFacts
from advbench.benchmark.runs.run_folder import MeasuredShard, RunFolder, Trained, Weights
from advbench.benchmark.runs.store import Store
from advbench.benchmark.runs.tuning import adopt
from advbench.benchmark.training import trainer

__all__ = ["Progress", "WorkError", "build_record", "catalogue", "identify", "perform"]
log = logging.getLogger(__name__)
_EVERY = 1.0
"""Seconds between two reports of progress within an epoch."""


class WorkError(RuntimeError):
    """A job that cannot be done, or failed; the message is one line with the fix."""


@dataclass(frozen=True)
class Progress:
    """How far a job is: `done` of `total` units; parts of an epoch count."""

    done: float
    total: int
    unit: Literal["epoch", "shard"]
    detail: str = ""


Report = Callable[[Progress], None]


def _no_report(_progress: Progress) -> None:
    """Report nothing."""


def catalogue() -> dict[str, MethodFacts]:
    """Return what planning must know of every method."""
    return {name: _facts(discovery.load(name)) for name in discovery.names()}


def _facts(method: type[Method[Any]]) -> MethodFacts:
    defaults = discovery.make(method.card.name).hyperparameters()
    tunable = {each.name: values for each in fields(method) if (values := each.metadata.get("tune"))}
    return MethodFacts(
        defaults, dict(method.requires), max(method.card.phases, default=None), tunable, method.card.recipe
    )


def _declared(method: Method[Any]) -> Iterator[str]:
    """Yield what a row says of a method that asks for more than the simple case."""
    if method.card.blends:
        yield "sets weights by hand"
    for module, factor in method.rates().items():
        yield f"{module} learns at {factor:g} of the rate"


def identify(method: Method[Any], length: tuple[int, int] | None = None) -> MethodIdentity:
    """Return who a method is, for the record: card, hyper-parameters, digest of its source file.

    With the `length` of training, in epochs and steps, the notes are those of a row under its protocol.
    """
    kind, card = type(method), method.card
    values = method.hyperparameters()
    defaults = {
        field.name: field.default_factory() if field.default_factory is not MISSING else field.default
        for field in fields(method)
    }
    source = inspect.getsourcefile(kind)
    return MethodIdentity(
        name=card.name,
        label=card.label,
        hyperparameters=values,
        changed={name: value for name, value in values.items() if value != defaults[name]},
        family=card.family,
        title=card.title,
        authors=card.authors,
        venue=card.venue,
        year=card.year,
        url=card.url,
        key=card.key,
        robust=card.robust,
        overrides_update=kind.update is not Method.update,
        notes=(*(card.notes if length is None else method.notes(*length)), *_declared(method)),
        source_sha256=None if source is None else hashlib.sha256(discovery.source_text(Path(source))).hexdigest(),
    )


def perform(
    job: Job,
    store_root: Path | str,
    *,
    data_root: Path | str | None = None,
    device: str | None = None,
    threads: int = 1,
    on_progress: Report = _no_report,
) -> Literal["done", "busy"]:
    """Do one job, or what is left of it; its log is in the run's folder.

    Args:
        job: what to do.
        store_root: the store's directory.
        data_root: where data sets lie; None: `$ADVBENCH_DATA` or the default.
        device: "cpu", "cuda", "cuda:1"; None: a GPU if there is one.
        threads: threads of torch; results are the same to the bit at the same number only.
        on_progress: called now and then.

    Returns:
        "done", or "busy": others hold some of the work; try again later.

    Raises:
        WorkError: if it failed; one line, the traceback is in the log, the failure in the store.
    """
    folder = Store(Path(store_root)).folder(job.run)
    folder.create()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    worker = _Worker(Store(Path(store_root)), None if data_root is None else Path(data_root), where, on_progress)
    with _logged(folder.log(job)):
        try:
            finished = worker.train(job.run, folder) if job.kind == "train" else worker.evaluate(job, folder)
            if finished:
                folder.write_record(build_record)
        except Exception as error:
            reason = _one_line(error)
            log.exception("%s failed", job.label)
            folder.fail(job, reason)
            raise WorkError(f"{reason} (log: {folder.log(job)})") from error
    return "done" if finished else "busy"


def _one_line(error: BaseException) -> str:
    message = " ".join(str(error).split())
    text = message if isinstance(error, ValueError | RuntimeError) and message else f"{type(error).__name__}: {message}"
    return text[:500]


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write what is logged inside to a file, too."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("advbench")
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


@lru_cache(maxsize=1)
def _dataset(spec: protocol.Data, root: Path | None, device: torch.device) -> Dataset:
    """Load a data set once for all jobs of this process."""
    return registry.load(spec, root=root, device=device)


@dataclass(frozen=True)
class _Worker:
    """What all steps of a job share."""

    store: Store
    data_root: Path | None
    device: torch.device
    report: Report

    def train(self, spec: RunSpec, folder: RunFolder) -> bool:
        """Train unless it is done; return False if somebody else is at it."""
        with folder.claim("train") as free:
            if folder.trained() is None:
                if not free:
                    return False
                if folder.training_json() is not None:
                    log.warning("%s: its weights are gone or torn: training what is missing", spec.label)
                if spec.twin is None or not adopt(self.store.folder(spec.twin), folder):
                    folder.finish_training(self._trained(spec, folder))
            if free:
                folder.retire("train")
        return True

    def _trained(self, spec: RunSpec, folder: RunFolder) -> Trained:
        method = discovery.make(spec.method, spec.hyperparameters)
        if method.hyperparameters() != spec.hyperparameters:
            raise WorkError(f"{spec.method} has other hyper-parameters than when this job was planned: plan again")
        dataset = _dataset(spec.training.data, self.data_root, self.device)
        # Before training: the source may change meanwhile.
        epochs = spec.training.training.epochs
        steps = epochs * (len(dataset.train) // spec.training.training.batch)
        identity = identify(method, (epochs, steps))
        write_bytes(folder.path / "adapter.py", discovery.source_text(discovery.source_file(type(method))))
        loaded = {role: self._teacher(spec, run_id, dataset) for role, run_id in sorted(spec.teachers.items())}
        loaded |= external_teachers(spec.training, method.requires, dataset, self.data_root, self.device)
        last_report = time.monotonic()
        epochs_done = 0

        def on_epoch(row: Epoch) -> None:
            nonlocal epochs_done
            epochs_done = row.epoch + 1
            text = f"loss {row.loss:.3f}, validation clean {row.clean:.1%}, PGD {row.robust:.1%}"
            log.info("%s: epoch %d of %d: %s", spec.label, epochs_done, epochs, text)
            self.report(Progress(epochs_done, epochs, "epoch", text))

        def on_batch(done: int, total: int) -> None:
            nonlocal last_report
            if time.monotonic() - last_report >= _EVERY:
                last_report = time.monotonic()
                self.report(Progress(epochs_done + done / total, epochs, "epoch"))

        def run() -> TrainingRecord:
            return trainer.train(
                method,
                spec.training,
                dataset,
                seed=spec.seed,
                folder=folder.path,
                device=self.device,
                environment=environment.describe(self.device),
                teachers={role: network for role, (network, _) in loaded.items()},
                teacher_records={role: teacher for role, (_, teacher) in loaded.items()},
                on_epoch=on_epoch,
                on_batch=on_batch,
            )

        try:
            record = run()
        except trainer.LostBestError as error:
            log.warning("%s: %s: training anew", spec.label, error)
            folder.forget_training()
            record = run()
        epoch_of: dict[CheckpointName, int] = {} if record.best_epoch is None else {"best": record.best_epoch}
        if record.diverged is None:
            epoch_of["last"] = record.epochs - 1
        weights = {name: _weights(folder.weights(name), epoch) for name, epoch in epoch_of.items()}
        return Trained(method=identity, data=dataset.provenance, training=record, checkpoints=weights)

    def _teacher(self, spec: RunSpec, run_id: str, dataset: Dataset) -> tuple[nn.Module, Teacher]:
        folder = self.store.sibling(spec, run_id)
        trained = folder.trained()
        if trained is None or "best" not in trained.checkpoints:
            state = "is not trained yet: train it first" if trained is None else "diverged and left no network"
            raise WorkError(f"the teacher {folder.spec.label} {state}")
        network = self._network(folder, "best", trained, dataset)
        teacher = Teacher(
            method=trained.method.name,
            run=run_id,
            sha256=trained.checkpoints["best"].sha256,
            seconds=trained.training.seconds + sum(own.seconds for own in trained.training.teachers.values()),
        )
        return network, teacher

    def _network(self, folder: RunFolder, name: CheckpointName, trained: Trained, dataset: Dataset) -> nn.Module:
        """Return a frozen network in eval mode, its weights compared with their checksum."""
        path = folder.weights(name)
        try:
            return weight_files.load(
                path,
                folder.spec.protocol.network,
                num_classes=dataset.num_classes,
                channels=dataset.shape[0],
                sha256=trained.checkpoints[name].sha256,
                device=self.device,
            )
        except weight_files.ChangedWeightsError:
            with folder.claim("train") as free:
                if free:
                    folder.forget_training()
                    folder.retire("train")
            raise WorkError(
                f"{path} is not what training wrote; it counts as untrained now: run again to train anew"
            ) from None

    def evaluate(self, job: Job, folder: RunFolder) -> bool:
        """Attack the missing shards of a job; return False if somebody else is at some of them."""
        if job.run.trial:
            raise WorkError(f"{job.run.label} is a trial of tuning, which must not see the test set")
        trained = folder.trained()
        if trained is None:
            raise WorkError(f"{job.run.label} is not trained yet: train it first")
        name, family = _target(job)
        if name not in trained.checkpoints:
            log.info("%s diverged and left no %s: there is nothing to attack", job.run.label, name)
            return True
        every = range(job.run.protocol.shards(trained.data.test))
        wanted = [shard for shard in job.shards or every if shard in every]
        missing = [shard for shard in wanted if shard not in folder.finished(name, family, trained)]
        if not missing:
            return True
        attack = self._attack(job, folder, trained)
        taken = 0
        for shard in missing:
            self.report(Progress(len(wanted) - len(missing) + missing.index(shard), len(wanted), "shard"))
            key = folder.work_key(name, family, shard, trained)
            with folder.claim(key) as free:
                if shard not in folder.finished(name, family, trained):
                    if not free:
                        taken += 1
                        continue
                    folder.add_shard(name, family, attack(shard), trained)
                if free:
                    folder.retire(key)
        self.report(Progress(len(wanted) - taken, len(wanted), "shard"))
        return not taken

    def _peers(self, folder: RunFolder, dataset: Dataset) -> dict[str, nn.Module]:
        """Return the trained peers of a run: their adversarial examples are tried on it."""
        return {
            f"{trained.method.name} {trained.checkpoints['best'].sha256}": self._network(peer, "best", trained, dataset)
            for peer, trained in self.store.peers(folder.spec.protocol)
            if peer.id != folder.id
        }

    def _attack(self, job: Job, folder: RunFolder, trained: Trained) -> Callable[[int], MeasuredShard]:
        """Load network and data; return the function that attacks one shard."""
        dataset = _dataset(job.run.protocol.data, self.data_root, self.device)
        here = dataset.provenance
        if (here.digest, here.test) != (trained.data.digest, trained.data.test):
            raise WorkError(
                f"the data here ({here.source}, {here.test} test images) are not those of the training "
                f"({trained.data.source}, {trained.data.test}): point $ADVBENCH_DATA at the same"
            )
        name, family = _target(job)
        network = self._network(folder, name, trained, dataset)
        size = job.run.protocol.attacks.shard
        machine = environment.describe(self.device)
        peers = self._peers(folder, dataset) if family == "examination" else {}

        def attack(shard: int) -> MeasuredShard:
            first = shard * size
            x, y = dataset.test.take(range(first, min(first + size, here.test)))
            result = evaluator.evaluate_shard(
                network,
                x,
                y,
                first=first,
                family=family,
                protocol=job.run.protocol,
                seed=job.run.seed,
                num_classes=dataset.num_classes,
                peers=peers,
            )
            log.info("%s: shard %d in %.1f s", job.label, shard, result.seconds)
            return MeasuredShard(
                shard=shard,
                checkpoint_sha256=trained.checkpoints[name].sha256,
                environment=machine,
                seconds=result.seconds,
                passes=result.passes,
                result=result,
            )

        return attack


def _target(job: Job) -> tuple[CheckpointName, str]:
    """Return what an evaluation job attacks, and with what."""
    if job.checkpoint is None or job.family is None:
        raise WorkError(f"job {job.id} names no checkpoint or no family of attacks: plan again")
    return job.checkpoint, job.family


def _weights(path: Path, epoch: int) -> Weights:
    return Weights(epoch=epoch, sha256=file_sha256(path), bytes=path.stat().st_size)
