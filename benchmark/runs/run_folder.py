"""One run on disk: its paths, its locks, and what is in it. Torch-free; `store` says what a folder looks like."""

import contextlib
import dataclasses
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

from filelock import FileLock, Timeout
from pydantic import PlainSerializer, PlainValidator, ValidationError

from advbench.benchmark import files
from advbench.benchmark.protocol import ProtocolError, explain
from advbench.benchmark.records.schema import (
    CHECKPOINTS,
    FAMILIES,
    CheckpointName,
    Count,
    DataProvenance,
    Environment,
    MethodIdentity,
    Part,
    Passes,
    Record,
    RecordError,
    Seconds,
    Sha256,
    TrainingRecord,
)
from advbench.benchmark.records.shard_result import ShardResult
from advbench.benchmark.runs.failure import Failure
from advbench.benchmark.runs.job import Job, RunSpec

log = logging.getLogger(__name__)
_FORMAT = 1
_WRITE = "write"
"""Key of the lock that is held for moments only, around appending to a journal and replacing the record."""


class StoreError(RuntimeError):
    """A store that cannot be used, or a run in it that is not what it should be; the message is one line."""


class Weights(Part):
    """A weights file that training left."""

    epoch: Count
    sha256: Sha256
    bytes: Count


class Trained(Part):
    """What training left behind. A run that diverged may lack one or both checkpoints."""

    method: MethodIdentity
    data: DataProvenance
    training: TrainingRecord
    checkpoints: dict[CheckpointName, Weights]


def _result(value: object) -> ShardResult:
    return value if isinstance(value, ShardResult) else ShardResult.from_plain(cast("Mapping[str, Any]", value))


class MeasuredShard(Part):
    """The outcome of one family of attacks on one shard of test images, with where and how it was measured."""

    shard: Count
    checkpoint_sha256: Sha256
    environment: Environment
    seconds: Seconds
    passes: Passes
    result: Annotated[ShardResult, PlainValidator(_result), PlainSerializer(ShardResult.to_plain)]


class ShardCost(NamedTuple):
    """What a shard took: seconds, and passes in forwards F."""

    seconds: float
    forwards: float


_Shards = Mapping[tuple[CheckpointName, str], Mapping[int, ShardCost]]


@dataclass(frozen=True)
class Scan:
    """What one look into a run folder finds.

    Attributes:
        trained: None while training is not finished.
        shards: valid results by (checkpoint, family): shard → what it took.
        held: keys of the locks that somebody holds → who.
        failures: of jobs that failed and were not done since.
    """

    trained: Trained | None
    shards: _Shards
    held: Mapping[str, str]
    failures: tuple[Failure, ...]


NOTHING = Scan(trained=None, shards={}, held={}, failures=())


@dataclass(frozen=True)
class RunFolder:
    """One run on disk: its paths, locks, and what is in it."""

    path: Path
    id: str
    given: RunSpec | None = None

    @cached_property
    def spec(self) -> RunSpec:
        """What the run is, read from `run.json` unless it is known already.

        Raises:
            StoreError: if `run.json` is missing, torn, of another version, or belongs to another folder.
        """
        if self.given is not None:
            return self.given
        path = self.path / "run.json"
        try:
            spec = RunSpec.from_plain(files.read_sealed(path)["spec"])
        except FileNotFoundError:
            raise StoreError(f"{path}: missing, so this folder is not a run") from None
        except (files.TornError, ProtocolError) as error:
            raise StoreError(str(error)) from None
        except (KeyError, TypeError):
            raise StoreError(f"{path}: written by another version of advbench") from None
        if spec.id != self.id:
            raise StoreError(f"{path}: belongs to run {spec.id}, not to this folder")
        return spec

    def weights(self, checkpoint: CheckpointName) -> Path:
        """Return the path of a checkpoint's weights."""
        return self.path / f"{checkpoint}.safetensors"

    @property
    def resume(self) -> Path:
        """Where training goes on."""
        return self.path / "resume.pt"

    def resumes(self) -> list[Path]:
        """Return the states that training can go on from, which are there: the newest and the one before."""
        return [path for path in (self.resume, self.path / "resume-older.pt") if path.is_file()]

    @property
    def record_path(self) -> Path:
        """Where the record lies."""
        return self.path / "record.json"

    def log(self, job: Job) -> Path:
        """Return the path of a job's log."""
        return self.path / "logs" / f"{job.id}.log"

    def create(self) -> None:
        """Make the folder and say in `run.json` what it is.

        Raises:
            StoreError: if the disk refuses.
        """
        path = self.path / "run.json"
        try:
            for part in ("logs", "locks", "failures", *(f"evaluation/{checkpoint}" for checkpoint in CHECKPOINTS)):
                (self.path / part).mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError, files.TornError):
                files.read_sealed(path)
                return
            files.write_sealed(path, {"format": _FORMAT, "spec": self.spec.to_plain()})
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be written ({error.strerror or error}); point $ADVBENCH_STORE elsewhere"
            ) from None

    def _lock_path(self, key: str) -> Path:
        return self.path / "locks" / f"{key}.lock"

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Try to take the lock of one piece of work; give whether it was free.

        The system frees the lock of a process that dies. Look again, inside, whether the work is still to be done.
        """
        path = self._lock_path(key)
        lock = FileLock(path, timeout=0.2)  # outlasts whoever only looks whether it is held
        try:
            lock.acquire(poll_interval=0.02)
        except Timeout:
            yield False
            return
        with contextlib.suppress(OSError):  # only a courtesy to those who wait
            since = datetime.now(UTC).isoformat(timespec="seconds")
            path.write_text(f"process {os.getpid()} on {platform.node()} since {since}\n", encoding="utf-8")
        try:
            yield True
        finally:
            lock.release()

    def retire(self, key: str) -> None:
        """Remove the lock file of work that is done and on disk; the caller holds it.

        Whoever had it open can still lock it, beside one who makes it anew: both then see that the work is done.
        """
        with contextlib.suppress(OSError):
            self._lock_path(key).unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of journals and record, waiting for it."""
        with FileLock(self._lock_path(_WRITE), timeout=120):
            yield

    def _held(self) -> dict[str, str]:
        held = {}
        for path in sorted((self.path / "locks").glob("*.lock")):
            if path.stem == _WRITE:
                continue
            try:
                with FileLock(path, blocking=False):
                    pass
            except Timeout:
                held[path.stem] = "another process"
                with contextlib.suppress(OSError):  # it may be done just now
                    held[path.stem] = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
            except OSError:  # a store that is only readable here
                continue
        return held

    def training_json(self) -> Trained | None:
        """Return what `training.json` says, whatever has become of the weights; None if it is missing or torn."""
        try:
            return Trained.model_validate(files.read_sealed(self.path / "training.json"))
        except (OSError, ValueError):
            return None

    def trained(self) -> Trained | None:
        """Return what training left, or None: not finished, torn, or its weights are gone or not what they were."""
        trained = self.training_json()
        try:
            whole = trained is not None and all(self._is_whole(*each) for each in trained.checkpoints.items())
        except OSError:
            return None
        return trained if whole else None

    def _is_whole(self, name: CheckpointName, saved: Weights) -> bool:
        """Whether weights are what training wrote; they are read only if they were touched since that was last known.

        `training.json` is as old as the last time it was known; whoever loads weights compares their checksum anyway.
        """
        path, known = self.weights(name), self.path / "training.json"
        found = path.stat()
        if found.st_size != saved.bytes:
            return False
        if max(found.st_mtime_ns, found.st_ctime_ns) < known.stat().st_mtime_ns:
            return True
        if files.file_sha256(path) != saved.sha256:
            return False
        with contextlib.suppress(OSError):  # a store that is only readable here
            os.utime(known)
        return True

    def finish_training(self, trained: Trained) -> None:
        """Say that training is done; the weights are on disk already."""
        files.write_sealed(self.path / "training.json", trained.model_dump(mode="json"))

    def forget_training(self) -> None:
        """Make the run untrained: its weights are not what they should be."""
        (self.path / "training.json").unlink(missing_ok=True)
        for path in self.resumes():
            path.unlink(missing_ok=True)

    def journal(self, checkpoint: CheckpointName, family: str, trained: Trained) -> Path:
        """Return the journal of a family of attacks on a checkpoint.

        Where `last` is `best` to the bit, it is not attacked a second time: both have one journal.
        """
        best, last = trained.checkpoints.get("best"), trained.checkpoints.get("last")
        if best is not None and last is not None and best.sha256 == last.sha256:
            checkpoint = "best"
        return self.path / "evaluation" / checkpoint / f"{family}.jsonl"

    def work_key(self, checkpoint: CheckpointName, family: str, shard: int, trained: Trained) -> str:
        """Return the key of the lock of one shard."""
        return f"{self.journal(checkpoint, family, trained).parent.name}-{family}-{shard}"

    def _raw(self, checkpoint: CheckpointName, family: str, trained: Trained, last: str | None) -> dict[int, Any]:
        """Return entries by shard, without the key `last` if it is given."""
        if (weights := trained.checkpoints.get(checkpoint)) is None:
            return {}
        path, found = self.journal(checkpoint, family, trained), {}
        for entry in files.sealed_entries(path, without=last):
            try:
                if entry["checkpoint_sha256"] == weights.sha256 and _cost(entry):
                    found[entry["shard"]] = entry
            except (KeyError, TypeError, ValueError, OverflowError):  # sealed, and yet not what we write
                log.warning("%s: an entry that is no result: it counts as missing", path)
        return found

    def finished(self, checkpoint: CheckpointName, family: str, trained: Trained) -> frozenset[int]:
        """Return the shards that have a valid result."""
        return frozenset(self._raw(checkpoint, family, trained, "result"))

    def shards(self, checkpoint: CheckpointName, family: str, trained: Trained) -> dict[int, MeasuredShard]:
        """Return the valid results by shard, in order; those of other weights count as missing.

        Raises:
            StoreError: if one is not a result; one line naming the journal.
        """
        found = sorted(self._raw(checkpoint, family, trained, None).items())
        try:
            return {shard: MeasuredShard.model_validate(entry) for shard, entry in found}
        except ValidationError as error:
            path = self.journal(checkpoint, family, trained)
            raise StoreError(f"{path}: {explain(error, 'entry', 1)}; remove the file to attack again") from None

    def add_shard(self, checkpoint: CheckpointName, family: str, measured: MeasuredShard, trained: Trained) -> None:
        """Put one result on disk."""
        with self.writing():
            files.append_sealed(self.journal(checkpoint, family, trained), measured.model_dump(mode="json"))

    def write_record(self, build: Callable[["RunFolder"], Record]) -> Record:
        """Build the record from what is here and put it on disk, with its checksum in the format of sha256sum.

        No result is added meanwhile, so of two processes the last to write knows all. An unchanged record keeps its
        date.
        """
        with self.writing():
            record, old = build(self), self.record()
            if old is not None and old.model_copy(update={"created": record.created}) == record:
                return old
            raw = record.dumps().encode()
            files.write_bytes(self.record_path, raw)
            files.write_bytes(self.path / "record.json.sha256", files.sum_line(raw, "record.json"))
            return record

    def record(self) -> Record | None:
        """Return the record, or None if there is no whole one; it can be built again at any time."""
        try:
            raw = self.record_path.read_bytes()
            if (self.path / "record.json.sha256").read_bytes() != files.sum_line(raw, "record.json"):
                return None
            return Record.load(self.record_path)
        except (OSError, RecordError):
            return None

    def fail(self, job: Job, reason: str) -> None:
        """Say why a job failed; its log holds the rest."""
        failure = Failure.of(job, reason, log=str(self.log(job)))
        files.write_sealed(self.path / "failures" / f"{job.id}.json", dataclasses.asdict(failure))

    def failures(self) -> tuple[Failure, ...]:
        """Return the failures that were written down, whatever was done since."""
        found = []
        for path in sorted((self.path / "failures").glob("*.json")):
            with contextlib.suppress(OSError, files.TornError, TypeError, KeyError):
                plain = files.read_sealed(path)
                found.append(Failure(**{**plain, "shards": tuple(plain["shards"])}))
        return tuple(found)

    def scan(self) -> Scan:
        """Look once at everything that planning needs."""
        if not self.path.is_dir():
            return NOTHING
        trained = self.trained()
        shards = {}
        if trained is not None:
            for checkpoint in trained.checkpoints:
                for family in FAMILIES:
                    raw = self._raw(checkpoint, family, trained, "result")
                    shards[checkpoint, family] = {shard: _cost(entry) for shard, entry in raw.items()}
        failures = tuple(each for each in self.failures() if not self._is_made_up(each, trained, shards))
        return Scan(trained=trained, shards=shards, held=self._held(), failures=failures)

    def _is_made_up(self, failure: Failure, trained: Trained | None, shards: _Shards) -> bool:
        """Whether what failed was done since, by whichever job."""
        if failure.checkpoint is None or failure.family is None or trained is None:
            return trained is not None
        if failure.checkpoint not in trained.checkpoints:
            return True  # it diverged: there is nothing to attack
        wanted = failure.shards or range(self.spec.protocol.shards(trained.data.test))
        return set(wanted) <= shards[failure.checkpoint, failure.family].keys()


def _cost(entry: dict[str, Any]) -> ShardCost:
    passes = entry["passes"]  # read by hand: validating 27,000 entries would take many seconds
    forwards = passes["forward"] + passes["input_gradient"] + 2 * passes["weight_gradient"]
    return ShardCost(float(entry["seconds"]), float(forwards))
