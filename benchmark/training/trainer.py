"""The one training loop: every method, every protocol, resumable to bit-identical weights on CPU.

All randomness is derived from (seed, purpose, epoch), so an epoch needs no generator state to be repeated: order and
augmentation, inner starts and initial weights each have a stream of their own. A checkpoint is taken at every epoch.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advbench.benchmark.data.registry import Dataset
from advbench.benchmark.files import file_sha256, write_bytes
from advbench.benchmark.method import Batch, Method
from advbench.benchmark.models import architectures, weight_files
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.models.torch_state import isolated_rng
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import (
    Divergence,
    Environment,
    Epoch,
    Passes,
    Teacher,
    TrainingRecord,
    due_selection,
)
from advbench.benchmark.training import optimiser
from advbench.benchmark.training.hardware import PeakMemory, precision
from advbench.benchmark.training.seeding import derive
from advbench.benchmark.training.side_effects import check_code, code, settings_kept
from advbench.benchmark.training.step import TrainingStep
from advbench.benchmark.training.task import TrainingError, TrainingTask
from advbench.benchmark.training.validation import accuracies

log = logging.getLogger(__name__)
NO_TEACHERS: Mapping[str, Any] = {}


@dataclass
class RunState:
    """Progress of a run: all that resuming needs beside weights and optimiser."""

    next_epoch: int = 0
    best_epoch: int | None = None
    best_key: tuple[float, ...] = ()
    best_sha256: str = ""
    seconds: float = 0.0
    images: int = 0
    curve: list[Epoch] = field(default_factory=list)

    def dump(self) -> dict[str, Any]:
        """Return plain data."""
        return {**vars(self), "best_key": list(self.best_key), "curve": [row.model_dump() for row in self.curve]}

    @classmethod
    def read(cls, plain: dict[str, Any]) -> "RunState":
        """Read what `dump` wrote."""
        curve = [Epoch.model_validate(row) for row in plain["curve"]]
        return cls(**{**plain, "best_key": tuple(plain["best_key"]), "curve": curve})


class Run:
    """One run in memory: networks, optimiser, step, state."""

    def __init__(
        self,
        method: Method[Any],
        protocol: Protocol,
        dataset: Dataset,
        *,
        seed: int,
        folder: Path,
        device: torch.device,
        teachers: Mapping[str, nn.Module],
    ) -> None:
        self.method, self.protocol, self.dataset = method, protocol, dataset
        self.seed, self.folder, self.device = seed, folder, device
        self.per_epoch = len(dataset.train) // protocol.training.batch
        if not self.per_epoch:
            raise TrainingError(
                f"{len(dataset.train)} training images are fewer than one batch of {protocol.training.batch}: "
                "lower training.batch or raise data.train_limit"
            )
        self.ledger = Ledger()
        task = TrainingTask(protocol, dataset, device, self.ledger, teachers)
        torch.manual_seed(derive(seed, "weights"))
        self.code = code()
        self.nets: nn.Module = method.build(task).to(device)
        self._check_code()
        self._check_fit(method.deployed(self.nets))
        fused = device.type in {"cpu", "cuda"}
        self.optimiser = optimiser.make(self.nets, method.rates(), protocol.training, fused=fused)
        self.inner_generator = torch.Generator(device)
        self.step = TrainingStep(
            self.nets,
            self.optimiser,
            threat=protocol.threat,
            inner=protocol.training.inner,
            generator=self.inner_generator,
            ledger=self.ledger,
            refresh=self._refresh_bn,
            autocast=self._autocast,
            first_drop=protocol.training.first_drop,
            card=method.card,
        )
        self.state = RunState()
        self.rate = 0.0
        self.peak = PeakMemory(device)

    def _check_code(self) -> None:
        """Refuse an adapter that has replaced code, or overrides what the trainer relies on, by now."""
        check_code(self.code, self.nets, type(self.method).__module__)

    def _check_fit(self, deployed: nn.Module) -> None:
        """Refuse a deployed network that evaluation could not load into the protocol's, naming what does not fit."""
        name, shape = self.protocol.network, self.dataset.shape
        with torch.device("meta"):
            due = architectures.build(name, num_classes=self.dataset.num_classes, channels=shape[0])
        shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (due, deployed)]
        wrong = sorted(key for key, _ in shapes[0].items() ^ shapes[1].items())
        if wrong:
            raise TrainingError(
                f"the deployed network is no {name}, as evaluation builds it ({wrong[0]} does not fit): "
                "deploy a network from task.network()"
            )

    def _autocast(self) -> AbstractContextManager[object]:
        if precision(self.device, self.protocol.training.precision) == "fp32":
            return nullcontext()
        # Without autocast's cache: it would go on using the bf16 copies of weights that a method has moved since within
        # the same batch (AWP would train at unperturbed weights), and copies made without gradient.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)

    def _batches(self, purpose: str, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive(self.seed, purpose, epoch))
        for x, y, index in self.dataset.train.epoch(self.protocol.training.batch, generator):
            yield Batch(x.contiguous(memory_format=torch.channels_last), y, index)

    @torch.no_grad()
    def _refresh_bn(self, net: nn.Module) -> None:
        norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 (their only base)
        momenta = [norm.momentum for norm in norms]
        modes = [(module, module.training) for module in net.modules()]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's cumulative mean
        net.train()
        with self._autocast():
            for batch in self._batches("refresh", self.state.next_epoch):
                net(batch.x)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training

    def train_epoch(self, epoch: int, report: Callable[[int, int], None]) -> Divergence | None:
        """Train one epoch; return where its loss stopped being finite, if it did."""
        training = self.protocol.training
        self.inner_generator.manual_seed(derive(self.seed, "inner", epoch))
        self.step.start_epoch(epoch / training.epochs, epoch, (epoch + 1) / training.epochs)
        torch.manual_seed(derive(self.seed, "global", epoch))
        self.nets.train()
        asks_at_once = self.device.type == "cpu"
        for number, batch in enumerate(self._batches("order", epoch)):
            self.rate = training.schedule.learning_rate(
                epoch * self.per_epoch + number, per_epoch=self.per_epoch, epochs=training.epochs
            )
            optimiser.set_rate(self.optimiser, self.rate)
            with settings_kept():
                with self.step.batch(len(batch.x)):
                    self.method.update(self.nets, batch, self.step)
                with torch.no_grad():
                    self.method.after_step(self.nets, self.step)
            if asks_at_once and self.step.first_bad_batch() is not None:
                break
            report(number + 1, self.per_epoch)
        bad = self.step.first_bad_batch()
        if bad is not None:
            return Divergence(
                epoch=epoch, step=epoch * self.per_epoch + bad, last_good_epoch=epoch - 1 if epoch else None
            )
        with torch.no_grad(), settings_kept():
            self.method.after_epoch(self.nets, self.step)
        self._check_code()
        return None

    def finish_epoch(self, epoch: int, seconds: float) -> Epoch:
        """Validate, keep `best` if it is, write the checkpoint; return the row of the learning curve."""
        passes = self.ledger.reset()
        deployed = self.method.deployed(self.nets)
        self._check_fit(deployed)
        validation, training = self.dataset.validation, self.dataset.train
        measure = self.protocol.selection.measure
        clean, ce, *worst = accuracies(deployed, validation, self.protocol, measure=measure)
        robust = worst[-1] if worst else ce
        # As many training images as there are for validation: what robust overfitting is seen by, at little cost.
        fitted = accuracies(deployed, training, self.protocol, measure="ce", images=len(validation))
        self.ledger.reset()  # both are the protocol's cost, not the method's
        logged = self.step.means() | dict(zip(("train_clean", "train_robust"), fitted, strict=True))
        logged |= {"ce": ce} if worst else {}
        images = self.per_epoch * self.protocol.training.batch
        row = Epoch(
            epoch=epoch,
            lr=self.rate,
            loss=logged.pop("loss", 0.0),
            clean=clean,
            robust=robust,
            seconds=seconds,
            images_per_second=images / seconds,
            peak_memory_bytes=self.peak.bytes(),
            passes=passes,
            logged=logged,
        )
        # Ties: higher clean accuracy, then the later epoch.
        key = (robust, clean) if self.method.card.robust else (clean,)
        better = key >= self.state.best_key
        raw = weight_files.serialised(deployed) if better else b""
        if better:
            self.state.best_key, self.state.best_epoch = key, epoch
            self.state.best_sha256 = hashlib.sha256(raw).hexdigest()
        self.state.curve.append(row)
        self.state.seconds += seconds
        self.state.images += images
        self.state.next_epoch = epoch + 1
        self.save()
        if better:  # after the state that knows its sha256: a kill in between is made up for by `resume`
            write_bytes(self.best, raw)
        return row

    def save(self) -> None:
        """Write the checkpoint that resuming reads."""
        plain = {"nets": self.nets.state_dict(), "optimiser": self.optimiser.state_dict(), "state": self.state.dump()}
        weight_files.save_resume(plain, self.folder / "resume.pt")

    @property
    def best(self) -> Path:
        """Where the best checkpoint lies."""
        return self.folder / "best.safetensors"

    def best_is_whole(self) -> bool:
        """Whether the best checkpoint on disk, if there should be one, is what this run wrote."""
        wanted = self.state.best_sha256
        return not wanted or (self.best.is_file() and file_sha256(self.best) == wanted)

    def resume(self) -> bool:
        """Go back to the last checkpoint, if there is one; write `best` anew where it is the network of now."""
        plain = weight_files.load_resume(self.folder / "resume.pt", self.device)
        if plain is None:
            return False
        try:
            self.nets.load_state_dict(plain["nets"])
            self.optimiser.load_state_dict(plain["optimiser"])
            self.state = RunState.read(plain["state"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"{self.folder / 'resume.pt'} does not fit this method any more ({type(error).__name__}): "
                "remove the file to train anew"
            ) from error
        if self.state.best_epoch == self.state.next_epoch - 1 and not self.best_is_whole():
            weight_files.save_weights(self.method.deployed(self.nets), self.best)
        return True


class LostBestError(TrainingError):
    """A best checkpoint that was changed or removed while its run went on: the run has to be trained anew."""


@contextmanager
def _staying_alive(method: Method[Any]) -> Iterator[None]:
    """Turn an adapter's attempt to end the process, which would look like success, into a failure."""
    try:
        yield
    except SystemExit as error:
        text = f"{method.card.name}: the adapter tries to end the process (SystemExit: {error})"
        raise TrainingError(text) from error


def _no_report(_done: int, _total: int) -> None:
    """Report nothing."""


def train(
    method: Method[Any],
    protocol: Protocol,
    dataset: Dataset,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    environment: Environment,
    teachers: Mapping[str, nn.Module] = NO_TEACHERS,
    teacher_records: Mapping[str, Teacher] = NO_TEACHERS,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_batch: Callable[[int, int], None] = _no_report,
) -> TrainingRecord:
    """Train a method under a protocol, or go on from the checkpoint in `folder`.

    Writes `best.safetensors` (by the protocol's selection rule), `last.safetensors` and `resume.pt` into `folder`,
    each atomically. A loss that is not finite ends the run: the record's `diverged` says where, `last` is not written.

    Args:
        method: the adapter with its hyper-parameters.
        protocol: everything but the method.
        dataset: on `device` already.
        seed: of initial weights, order, augmentation and inner starts.
        folder: an existing folder of this run alone.
        device: where to train.
        environment: written into the record; its `precision` is set here.
        teachers: frozen teachers by role, as `method.requires` declares.
        teacher_records: where they come from, for the record.
        on_epoch: called with each new row of the learning curve.
        on_batch: called with batches done in this epoch and their number.

    Raises:
        TrainingError: if it cannot start or resume.
        LostBestError: if the best checkpoint is not there any more, or was changed.
    """
    missing = set(method.requires) - set(teachers)
    if missing:
        raise TrainingError(f"{method.card.name} needs frozen teachers for: {', '.join(sorted(missing))}")
    with isolated_rng(device), _staying_alive(method):
        run = Run(method, protocol, dataset, seed=seed, folder=folder, device=device, teachers=teachers)
        if run.resume():
            log.info("%s seed %d resumes at epoch %d", method.card.name, seed, run.state.next_epoch)
        diverged = None
        while run.state.next_epoch < protocol.training.epochs and diverged is None:
            epoch = run.state.next_epoch
            began = time.perf_counter()
            diverged = run.train_epoch(epoch, on_batch)
            if diverged is None:
                row = run.finish_epoch(epoch, time.perf_counter() - began)
                if on_epoch is not None:
                    on_epoch(row)
        if not run.best_is_whole():
            raise LostBestError(f"{run.best} is not what training wrote")
        deployed = method.deployed(run.nets)
    if diverged is None:
        weight_files.save_weights(deployed, folder / "last.safetensors")
    else:
        last_good = "none" if diverged.last_good_epoch is None else f"epoch {diverged.last_good_epoch}"
        log.error(
            "%s seed %d: the loss is not finite at epoch %d, step %d; last good checkpoint: %s (%s)",
            method.card.name,
            seed,
            diverged.epoch,
            diverged.step,
            last_good,
            folder / "resume.pt",
        )
    return TrainingRecord(
        environment=environment.model_copy(update={"precision": precision(device, protocol.training.precision)}),
        epochs=run.state.next_epoch,
        seconds=run.state.seconds,
        peak_memory_bytes=max((row.peak_memory_bytes for row in run.state.curve), default=run.peak.bytes()),
        passes=sum((row.passes for row in run.state.curve), Passes()),
        images=run.state.images,
        parameters_deployed=architectures.count_parameters(deployed),
        parameters_trained=sum(value.numel() for value in run.nets.parameters() if value.requires_grad),
        selection=due_selection(protocol, robust=method.card.robust),
        best_epoch=run.state.best_epoch,
        teachers=dict(teacher_records),
        curve=tuple(run.state.curve),
        diverged=diverged,
    )
