"""A live account of running jobs with the time left; plain lines where the output is not a terminal."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from advbench.benchmark.cli.console import console
from advbench.benchmark.runs.amounts import duration
from advbench.benchmark.runs.executors.base import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_QUIET = 30.0
"""Seconds between two plain lines about one job."""
_ENOUGH = 0.03
"""Share of the work after which the time left is taken from the speed so far, not from the estimate."""


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

    def hear(self, event: Event) -> None:
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
        return min(1.0, sum(self.weights.get(one, 0.0) * share for one, share in self.shares.items()) / self.whole)

    def left(self, now: float | None = None) -> float:
        """Return the seconds left."""
        done = self.fraction
        if done < _ENOUGH:
            return self.whole * (1 - done) / self.workers
        elapsed = (time.monotonic() if now is None else now) - self.began
        return elapsed / done * (1 - done)

    @property
    def counts(self) -> str:
        """Jobs settled of all, "3/27"."""
        return f"{len(self.settled)}/{len(self.weights)}"


class Display:
    """Listens to an executor and shows what happens; a context manager."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.screen = console(stderr=True)
        self.live: Progress | None = None
        self.bars: dict[str, TaskID] = {}
        self.whole: TaskID | None = None
        self.last_said: dict[str, float] = {}
        self.waiting_since: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Begin; in a terminal, with bars."""
        if self.screen.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn

            columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[said]}")
            self.live = Progress(*columns, console=self.screen, transient=True)
            self.live.start()
            self.whole = self.live.add_task("all jobs", total=1.0, said="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self.meter.hear(event)
        if self.live is not None:
            self._bars(event, self.live)
        identity = event.job.id
        if event.kind in {"finished", "failed", "blocked"}:
            self._settled(event)
        elif event.kind == "waiting":
            self._waiting(event)
        elif event.kind == "started" and self.live is None:
            self.last_said[identity] = time.monotonic()
        elif event.kind == "progress" and self.live is None:
            self._now_and_then(event)

    def note(self, line: str) -> None:
        """Show a line that is of no job in particular."""
        self._say(f"[{self.meter.counts}] {line}")

    def _settled(self, event: Event) -> None:
        left = f"; about {duration(self.meter.left())} left" if self.meter.fraction < 1 else ""
        if event.kind == "finished":
            self._say(f"[{self.meter.counts}] {event.job.label}: done in {duration(event.seconds)}{left}")
        else:
            self._say(f"[{self.meter.counts}] {event.kind}: {event.job.label}: {event.detail}")

    def _waiting(self, event: Event) -> None:
        """Say, once, that a job has waited for long: a short wait is for a job of our own on the same network."""
        now = time.monotonic()
        since = self.waiting_since.setdefault(event.job.id, now)
        if now - since >= _QUIET:
            self.waiting_since[event.job.id] = float("inf")
            self._say(f"waiting: {event.job.label}: {event.detail}")

    def _now_and_then(self, event: Event) -> None:
        now = time.monotonic()
        if now - self.last_said.get(event.job.id, now - _QUIET) >= _QUIET:
            self.last_said[event.job.id] = now
            detail = f" ({event.detail})" if event.detail else ""
            said = f"{event.job.label}: {event.unit} {event.done:.0f} of {event.total}{detail}"
            self._say(f"[{self.meter.counts}] {said}; about {duration(self.meter.left())} left")

    def _bars(self, event: Event, live: "Progress") -> None:
        identity = event.job.id
        if event.kind == "started":
            self.bars[identity] = live.add_task(event.job.label, total=1.0, said="")
        elif identity in self.bars and event.kind == "progress":
            said = f"{event.unit} {event.done:.0f}/{event.total} {event.detail}"
            live.update(self.bars[identity], completed=event.done / max(1, event.total), said=said)
        elif identity in self.bars:
            live.remove_task(self.bars.pop(identity))
        if self.whole is not None:
            said = f"{self.meter.counts}, about {duration(self.meter.left())} left"
            live.update(self.whole, completed=self.meter.fraction, said=said)

    def _say(self, line: str) -> None:
        if self.live is not None:
            self.live.console.print(line)
        else:
            click.echo(line, err=True)
