"""A live account of running jobs with the time left; plain lines where the output is not a terminal."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from advbench.benchmark.cli.console import console
from advbench.benchmark.runs.amounts import duration
from advbench.benchmark.runs.executors.base import JobEvent
from advbench.benchmark.runs.meter import Meter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_QUIET = 30.0
"""Seconds between two plain lines about one job."""


class Display:
    """Listens to an executor and shows what happens; a context manager."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.screen = console(stderr=True)
        self.live: Progress | None = None
        self.bars: dict[str, TaskID] = {}
        self.whole: TaskID | None = None
        self.last_shown: dict[str, float] = {}
        self.waiting_since: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Begin; in a terminal, with bars."""
        if self.screen.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn

            columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[message]}")
            self.live = Progress(*columns, console=self.screen, transient=True)
            self.live.start()
            self.whole = self.live.add_task("all jobs", total=1.0, message="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: JobEvent) -> None:
        """Show one event."""
        self.meter.update(event)
        if self.live is not None:
            self._bars(event, self.live)
        identity = event.job.id
        if event.kind in {"finished", "failed", "blocked"}:
            self._settled(event)
        elif event.kind == "waiting":
            self._waiting(event)
        elif event.kind == "started" and self.live is None:
            self.last_shown[identity] = time.monotonic()
        elif event.kind == "progress" and self.live is None:
            self._now_and_then(event)

    def note(self, line: str) -> None:
        """Show a line that is of no job in particular."""
        self._show(f"[{self.meter.counts}] {line}")

    def _settled(self, event: JobEvent) -> None:
        left = f"; about {duration(self.meter.left())} left" if self.meter.fraction < 1 else ""
        if event.kind == "finished":
            self._show(f"[{self.meter.counts}] {event.job.label}: done in {duration(event.seconds)}{left}")
        else:
            self._show(f"[{self.meter.counts}] {event.kind}: {event.job.label}: {event.detail}")

    def _waiting(self, event: JobEvent) -> None:
        """Say, once, that a job has waited for long: a short wait is for a job of our own on the same network."""
        now = time.monotonic()
        since = self.waiting_since.setdefault(event.job.id, now)
        if now - since >= _QUIET:
            self.waiting_since[event.job.id] = float("inf")
            self._show(f"waiting: {event.job.label}: {event.detail}")

    def _now_and_then(self, event: JobEvent) -> None:
        now = time.monotonic()
        if now - self.last_shown.get(event.job.id, now - _QUIET) >= _QUIET:
            self.last_shown[event.job.id] = now
            detail = f" ({event.detail})" if event.detail else ""
            message = f"{event.job.label}: {event.unit} {event.done:.0f} of {event.total}{detail}"
            self._show(f"[{self.meter.counts}] {message}; about {duration(self.meter.left())} left")

    def _bars(self, event: JobEvent, live: "Progress") -> None:
        identity = event.job.id
        if event.kind == "started":
            self.bars[identity] = live.add_task(event.job.label, total=1.0, message="")
        elif identity in self.bars and event.kind == "progress":
            message = f"{event.unit} {event.done:.0f}/{event.total} {event.detail}"
            live.update(self.bars[identity], completed=event.done / max(1, event.total), message=message)
        elif identity in self.bars:
            live.remove_task(self.bars.pop(identity))
        if self.whole is not None:
            message = f"{self.meter.counts}, about {duration(self.meter.left())} left"
            live.update(self.whole, completed=self.meter.fraction, message=message)

    def _show(self, line: str) -> None:
        if self.live is not None:
            self.live.console.print(line)
        else:
            click.echo(line, err=True)
