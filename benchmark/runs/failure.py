"""A failure: why a job failed last time, as the run's folder keeps it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self

from advbench.benchmark.files import without_steering
from advbench.benchmark.records.schema import CheckpointName
from advbench.benchmark.runs.job import Job


@dataclass(frozen=True)
class Failure:
    """Why a job failed last time, and which work that was; no shards: all of them."""

    job: str
    kind: Literal["train", "evaluate"]
    checkpoint: CheckpointName | None
    family: str | None
    shards: tuple[int, ...]
    reason: str
    log: str
    when: str

    @classmethod
    def of(cls, job: Job, reason: str, *, log: str) -> Self:
        """Return the failure of a job, now."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(job.id, job.kind, job.checkpoint, job.family, job.shards, without_steering(reason), log, when)

    @property
    def unit(self) -> tuple[str, CheckpointName | None, str | None]:
        """What the job worked on, whatever the shards."""
        return self.kind, self.checkpoint, self.family
