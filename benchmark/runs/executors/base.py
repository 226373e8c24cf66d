"""What executors share: a function does the jobs, here or elsewhere, and their outcomes come back. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from advbench.benchmark.runs.job import Job


class ExecutorError(RuntimeError):
    """An executor that cannot work at all; the message is one line."""


@dataclass(frozen=True)
class JobFunction:
    """The function that does a job: where to find it and what it gets beside the job; JSON data.

    It is called with (job, **arguments, on_progress=report) and returns "done", or "busy" if others hold the
    work and it should be asked again later; it raises if the job failed. What it passes to `report` has the attributes
    `done`, `total`, `unit` and `detail`.

    Attributes:
        path: "package.module:name".
        arguments: keyword arguments.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobEvent:
    """Something happened to a job.

    Attributes:
        kind: "waiting": others hold the work, it is tried again; "blocked": a job it needs failed.
        done, total, unit: how far it is, with "progress".
        detail: the reason of a failure, or what there is to say of the progress.
        seconds: since the job began.
    """

    kind: Literal["started", "progress", "finished", "waiting", "failed", "blocked"]
    job: Job
    done: float = 0.0
    total: int = 0
    unit: str = ""
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of the jobs; failed and blocked ones come with the reason."""

    done: tuple[Job, ...] = ()
    failed: tuple[tuple[Job, str], ...] = ()
    blocked: tuple[tuple[Job, str], ...] = ()

    @property
    def clean(self) -> bool:
        """Whether everything is done."""
        return not self.failed and not self.blocked


Listener = Callable[[JobEvent], None]


class Executor(Protocol):
    """Carries jobs to a function, here or elsewhere."""

    def execute(self, jobs: Sequence[Job], function: JobFunction, on_event: Listener) -> Outcome:
        """Have all jobs done, each after those it names; return when none is left.

        Raises:
            ExecutorError: if no job can be started at all.
        """
        ...
