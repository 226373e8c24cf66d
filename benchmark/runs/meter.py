"""How much of the jobs is done, and the time left. Torch-free."""

import math
import time
from collections.abc import Mapping

from advbench.benchmark.runs.executors.base import JobEvent

_ENOUGH, _LONG = 0.03, 600.0
"""Share of the work, or seconds, after which the speed so far alone counts; before, more and more: nothing jumps."""


class Meter:
    """How much of the work is done, and the time left.

    Args:
        weights: seconds each job is expected to take, by job id.
        workers: jobs at once.
    """

    def __init__(self, weights: Mapping[str, float], workers: int) -> None:
        self.weights, self.workers = dict(weights), workers
        self.whole = sum(self.weights.values())
        self.shares: dict[str, float] = {}
        self.settled: set[str] = set()
        self.began = time.monotonic()

    def update(self, event: JobEvent) -> None:
        """Take in an event."""
        identity = event.job.id
        if event.kind in {"finished", "failed", "blocked"}:
            self.shares[identity] = 1.0
            self.settled.add(identity)
        elif event.kind == "progress" and event.total:
            self.shares[identity] = min(1.0, event.done / event.total)

    @property
    def fraction(self) -> float:
        """Share of the work that is done, in [0,1]."""
        if not self.whole:
            return 1.0
        return min(1.0, sum(self.weights.get(job, 0.0) * share for job, share in self.shares.items()) / self.whole)

    def left(self, now: float | None = None) -> float:
        """Return the seconds left."""
        done = self.fraction
        expected = self.whole * (1 - done) / self.workers
        elapsed = (time.monotonic() if now is None else now) - self.began
        if not done or elapsed <= 0:
            return expected
        slower = elapsed * self.workers / (done * self.whole)
        return expected * math.pow(slower, min(1.0, max(done / _ENOUGH, elapsed / _LONG)))

    @property
    def counts(self) -> str:
        """Jobs settled of all, "3/27"."""
        return f"{len(self.settled)}/{len(self.weights)}"
