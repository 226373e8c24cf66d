"""What was handed to Slurm, on disk beside the runs, so that nothing is queued twice. Torch-free.

    <store>/.slurm/
        identity                    names this store in the names of its jobs
        lock                        held while jobs are queued, cancelled, or found to be gone
        <submission>/
            batch.json              the jobs, numbered; how each is done; who queued them, where
            arrays.jsonl            Slurm's id of each array, the first job in it, and how many there are
            outcomes.jsonl          what became of the jobs; the last entry of a job counts
            live/<number>.json      how far a job is that has begun and is not settled
            slurm-<id>.log          what the tasks of an array print outside jobs

A job whose last outcome is missing is in Slurm's queue or lost. The store remains the truth about the work itself: jobs
find out under its locks what there is left to do.
"""

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from advbench.benchmark import files
from advbench.benchmark.records.schema import Part
from advbench.benchmark.runs.executors.base import ExecutorError, JobFunction
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.store import Store

FOLDER = ".slurm"
_LOCK_PATIENCE = 900.0
_KEPT_DAYS = 14
CANCELLED = "cancelled in Slurm"
End = Literal["done", "failed", "blocked", "cancelled", "unsent"]
Unit = tuple[str, str | None, str | None, int | None]
"""One thing to do: (run, None, None, None) is training; (run, checkpoint, family, shard) an attack."""


@dataclass(frozen=True)
class Settled:
    """What became of a job, and why where it is not done."""

    end: End
    reason: str = ""


@dataclass(frozen=True)
class Array:
    """An array in Slurm: its index i is job `first` + i of the submission."""

    slurm: str
    first: int
    count: int

    def key(self, part: int) -> str:
        """Return Slurm's name of a job."""
        return f"{self.slurm}_{part - self.first}"


def units(job: Job) -> frozenset[Unit]:
    """Return what a job does. Shards that are not known yet count as one, None."""
    run = job.run.id
    if job.kind == "train":
        return frozenset({(run, None, None, None)})
    return frozenset((run, job.checkpoint, job.family, shard) for shard in job.shards or (None,))


class JobBatch(Part):
    """The jobs of one command as they are on disk, numbered, and how each is done.

    Attributes:
        user: who queued them.
        minutes: their time limit; None: there is none.
        runs: run → `RunSpec.to_plain()`.
        jobs: each with the identity of its run in the place of the run.
    """

    format: Literal[2] = 2
    user: str
    cluster: str
    when: datetime
    function: JobFunction
    retries: int
    grace: int
    minutes: float | None
    runs: dict[str, Any]
    jobs: list[Any]


@lru_cache(maxsize=64)
def _batch(path: Path) -> JobBatch:
    """Read a batch, which is never written again."""
    try:
        return JobBatch.model_validate(files.read_sealed(path))
    except OSError as error:
        raise ExecutorError(f"{path}: cannot be read ({error.strerror})") from None
    except files.TornError as error:
        raise ExecutorError(str(error)) from None
    except ValidationError:
        raise ExecutorError(f"{path}: written by another version of advbench") from None


@dataclass(frozen=True)
class Submission:
    """The jobs of one command."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the submission."""
        return self.path.name

    @cached_property
    def batch(self) -> JobBatch:
        """The batch as it is on disk.

        Raises:
            ExecutorError: if it is not there or not whole.
        """
        return _batch(self.path / "batch.json")

    @property
    def count(self) -> int:
        """How many jobs there are."""
        return len(self.batch.jobs)

    def job(self, part: int) -> Job:
        """Return a job by number.

        Raises:
            ExecutorError: if there is none of that number.
        """
        if not 0 <= part < self.count:
            raise ExecutorError(f"{self.path}: there is no job {part}; there are {self.count}")
        return self._read(part, {})

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs in order of their numbers."""
        runs: dict[str, RunSpec] = {}
        return tuple(self._read(part, runs) for part in range(self.count))

    def _read(self, part: int, runs: dict[str, RunSpec]) -> Job:
        plain = self.batch.jobs[part]
        run = runs.get(plain["run"]) or RunSpec.from_plain(self.batch.runs[plain["run"]])
        runs[plain["run"]] = run
        shards, after = tuple(plain["shards"]), tuple(plain["after"])
        return Job(plain["kind"], run, plain["checkpoint"], plain["family"], shards, after)

    # Slurm's ids ------------------------------------------------------------------------------------------------------

    def add_array(self, array: Array) -> None:
        """Remember an array that Slurm took; the caller holds the registry's lock."""
        files.append_sealed(
            self.path / "arrays.jsonl", {"slurm": array.slurm, "first": array.first, "count": array.count}
        )

    def arrays(self) -> tuple[Array, ...]:
        """Return the arrays in the order in which they were queued."""
        return tuple(Array(**entry) for entry in files.sealed_entries(self.path / "arrays.jsonl"))

    def keys(self) -> dict[int, str]:
        """Return Slurm's name of each job that was queued; of one queued again, the last."""
        found: dict[int, str] = {}
        for array in self.arrays():
            found.update((part, array.key(part)) for part in range(array.first, array.first + array.count))
        return found

    # Outcomes ---------------------------------------------------------------------------------------------------------

    def settle(self, parts: Iterable[int], end: End | None, reason: str = "") -> None:
        """Say what became of jobs; None: they are queued again."""
        with FileLock(self.path / "outcomes.lock", timeout=120):
            files.append_sealed(self.path / "outcomes.jsonl", {"parts": sorted(parts), "end": end, "reason": reason})

    def settled(self) -> dict[int, Settled]:
        """Return what became of the jobs that are settled, by number."""
        found: dict[int, Settled] = {}
        for entry in files.sealed_entries(self.path / "outcomes.jsonl"):
            for part in entry["parts"]:
                if entry["end"] is None:
                    found.pop(part, None)
                else:
                    found[part] = Settled(entry["end"], entry["reason"])
        return found

    # Jobs that have begun ---------------------------------------------------------------------------------------------

    def _live(self, part: int) -> Path:
        return self.path / "live" / f"{part}.json"

    def live(self, part: int) -> dict[str, Any]:
        """Return how far a job is; empty if it never began, or is settled."""
        try:
            found = json.loads(self._live(part).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def set_live(self, part: int, state: Mapping[str, Any]) -> None:
        """Say how far a job is."""
        files.write_bytes(self._live(part), json.dumps(dict(state)).encode())

    def end_live(self, part: int) -> None:
        """Forget how far a job was: it is settled."""
        self._live(part).unlink(missing_ok=True)

    def log(self, slurm: str) -> Path:
        """Return the file with what the tasks of an array print outside jobs."""
        return self.path / f"slurm-{slurm}.log"


@dataclass(frozen=True)
class Registry:
    """Everything that was handed to Slurm for one store."""

    store: Store

    @property
    def root(self) -> Path:
        """Where it lies."""
        return self.store.root.absolute() / FOLDER

    @contextlib.contextmanager
    def locked(self, patience: float = _LOCK_PATIENCE) -> Iterator[None]:
        """Keep others from queueing for this store.

        Raises:
            ExecutorError: if the disk refuses, or others hold the lock for long.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / "lock", timeout=patience)
            lock.acquire()
        except Timeout:
            raise ExecutorError(f"{self.root / 'lock'}: others have been queueing for long; try again later") from None
        except OSError as error:
            reason = error.strerror or error
            raise ExecutorError(f"{self.root}: cannot be written ({reason}); choose another --store") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def identity(self) -> str:
        """The name of this store in Slurm; made when it is first asked for, by who holds the lock."""
        path = self.root / "identity"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii").strip()
        files.write_bytes(path, secrets.token_hex(4).encode())
        return path.read_text(encoding="ascii").strip()

    def submissions(self) -> tuple[Submission, ...]:
        """Return what was queued, oldest first."""
        try:
            return tuple(Submission(path.parent) for path in sorted(self.root.glob("*/batch.json")))
        except OSError:
            return ()

    def open(self) -> Iterator[tuple[Submission, dict[int, Settled]]]:
        """Yield the submissions that have jobs of which the outcome is not known, with what is."""
        for submission in self.submissions():
            try:
                settled = submission.settled()
                if len(settled) < submission.count:
                    yield submission, settled
            except ExecutorError:
                continue  # of another version

    def add(
        self, jobs: Sequence[Job], function: JobFunction, *, user: str, cluster: str, more: Mapping[str, Any]
    ) -> Submission:
        """Write down jobs that are about to be queued; the caller holds the lock."""
        now = datetime.now(UTC)
        path = self.root / f"{now:%Y%m%d-%H%M%S%f}-{secrets.token_hex(3)}"  # sorts by time
        (path / "live").mkdir(parents=True)
        for name in ("arrays.jsonl", "outcomes.jsonl"):
            (path / name).touch()
        names = ("kind", "checkpoint", "family", "shards", "after")
        batch = JobBatch(
            user=user,
            cluster=cluster,
            when=now.replace(microsecond=0),
            function=function,
            runs={run: spec.to_plain() for run, spec in {job.run.id: job.run for job in jobs}.items()},
            jobs=[{"run": job.run.id, **{name: getattr(job, name) for name in names}} for job in jobs],
            **more,
        )
        files.write_sealed(path / "batch.json", batch.model_dump(mode="json"))
        return Submission(path)

    def tidy(self) -> None:
        """Remove what is two weeks old and settled; the caller holds the lock."""
        for submission in self.submissions():
            with contextlib.suppress(ExecutorError, OSError, ValueError, KeyError):
                age = datetime.now(UTC) - submission.batch.when
                if age.days >= _KEPT_DAYS and len(submission.settled()) >= submission.count:
                    shutil.rmtree(submission.path)
