"""Queue jobs that nobody has queued yet: as arrays that wait for each other, as far as there is room. Torch-free."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from advbench.benchmark.runs.executors.base import JobFunction
from advbench.benchmark.runs.executors.slurm import checks, commands
from advbench.benchmark.runs.executors.slurm.arrays import Wave, waves
from advbench.benchmark.runs.executors.slurm.checks import Cluster, Probe
from advbench.benchmark.runs.executors.slurm.commands import ArrayTask, SlurmAwayError, SlurmError
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.registry import Array, Registry, Submission, Unit, units
from advbench.benchmark.runs.job import Job

if TYPE_CHECKING:
    from advbench.benchmark.runs.executors.slurm.engine import Engine

_FULL = re.compile(r"submit ?limit|MaxSubmit|GrpSubmit|job submit limit|MaxJobCount|too many jobs", re.IGNORECASE)
_NO_NODES = re.compile(r"node configuration|nodes? .*not available", re.IGNORECASE)
_AWAY_PATIENCE = 300.0


@dataclass
class Dispatch:
    """One command's jobs on their way into the queue; whoever calls it holds the registry's lock.

    Attributes:
        ours: the submission of what was not queued before; None: everything was.
        theirs: jobs that are in the queue already, by whom it may be → their number there.
    """

    registry: Registry
    profile: Profile
    cluster: Cluster
    command: tuple[str, ...]
    ours: Submission | None = None
    waves: list[Wave] = field(default_factory=list)
    probe: Probe = field(default_factory=Probe)
    theirs: dict[str, list[tuple[Submission, int]]] = field(default_factory=dict)
    rest: dict[str, str] = field(default_factory=dict)
    """Ids of jobs of which only a part was left to queue → id of that part."""
    last: str = ""
    """Slurm's id of the array that was queued last, for stages that come one after the other."""
    arrays: int = 0
    """How many arrays were made."""
    keys: dict[int, str] = field(default_factory=dict)
    """Slurm's names of our jobs that are queued, by number."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Numbers of our jobs, by id."""

    @property
    def unsent(self) -> int:
        """How many jobs are not in the queue for want of room."""
        return sum(wave.unsent for wave in self.waves)

    def prepare(
        self, jobs: Sequence[Job], function: JobFunction, live: Mapping[str, ArrayTask], data: Path | None
    ) -> None:
        """Find out what is in the queue already, and write down the rest.

        Raises:
            ExecutorError: if Slurm does not take such jobs, or nodes do not see the store.
        """
        fresh = self._fresh(jobs, live)
        if not fresh:
            return
        name = f"advbench-{self.registry.identity}"
        engine = self._engine(self.registry.root)
        self._rehearse(engine, name)
        self._probe(engine, name, data)
        self.waves = waves(fresh, stages=self.profile.parallel is not None)
        more = {"retries": self.profile.retries, "grace": self.profile.notice, "minutes": self.profile.minutes}
        every = [job for wave in self.waves for job in wave.jobs]
        self.ours = self.registry.add(
            every, function, user=commands.me(), cluster=self.cluster.configuration.cluster, more=more
        )
        self.numbers = {job.id: part for part, job in enumerate(every)}

    @staticmethod
    def _rehearse(engine: "Engine", name: str) -> None:
        """Refuse what Slurm does not take; where all nodes are down or drained for now, only queueing itself tells."""
        try:
            engine.send(f"{name}-test", "job", {"test-only": True}, count=1)
        except SlurmAwayError:
            raise
        except SlurmError as error:
            if not _NO_NODES.search(str(error)):
                raise checks.refusal(str(error)) from None

    def _engine(self, folder: Path) -> "Engine":
        from advbench.benchmark.runs.executors.slurm.engine import Engine  # noqa: PLC0415 (submitit is an extra)

        return Engine(folder, self.profile, self.command)

    def _fresh(self, jobs: Sequence[Job], live: Mapping[str, ArrayTask]) -> list[Job]:
        """Return the jobs, or the parts of them, that nobody has queued."""
        holders: dict[Unit, tuple[Submission, int]] = {}
        for submission, settled in self.registry.open():
            if submission.batch.cluster != self.cluster.configuration.cluster:
                continue
            for part, key in submission.keys().items():
                if part not in settled and key in live:
                    holders.update(dict.fromkeys(units(submission.jobs[part]), (submission, part)))
        fresh = []
        for job in jobs:
            wanted = units(job)
            held = {unit: holders[unit] for unit in wanted if unit in holders}
            if held:
                own = {(submission.name, part): (submission, part) for submission, part in held.values()}
                self.theirs[job.id] = list(own.values())
            if len(held) < len(wanted):
                rest = tuple(shard for unit in wanted - set(held) if (shard := unit[3]) is not None)
                fresh.append(dataclasses.replace(job, shards=tuple(sorted(rest))) if held else job)
                self.rest[job.id] = fresh[-1].id
        return fresh

    def _probe(self, engine: "Engine", name: str, data: Path | None) -> None:
        """Send a probe ahead unless nodes are this machine, or have been looked at."""
        place = f"{self.cluster.configuration.cluster} {self.cluster.partition.name}"
        if self.cluster.at_home or checks.seen(self.registry, place):
            return
        lines = checks.shell(self.registry, self.command, data)
        plain = {"output": "/dev/null", "chdir": "/", "time": "5", "signal": "KILL@1"}
        sent = engine.send(f"{name}-probe", lines, plain)
        self.probe = checks.await_probe(self.registry, sent, place)

    def send(self, live: Mapping[str, ArrayTask] | None = None) -> int:
        """Queue what is not queued yet, as far as there is room; return how many jobs were queued."""
        if self.ours is None or not self.unsent:
            return 0
        most = self.cluster.configuration.max_array
        room = self._room(live or {})
        sent = 0
        for wave in self.waves:
            while wave.unsent:
                size = min(most, wave.unsent, room - sent)
                taken = self._chunk(wave, size) if size > 0 else 0
                if not taken:
                    return sent
                wave.sent += taken
                sent += taken
        return sent

    def _room(self, live: Mapping[str, ArrayTask]) -> int:
        if self.profile.max_queued is None:
            return 1 << 30
        return self.profile.max_queued - sum(task.user == commands.me() for task in live.values())

    def _chunk(self, wave: Wave, size: int) -> int:
        """Queue some jobs of a wave, fewer if Slurm takes no more; return how many."""
        assert self.ours is not None  # noqa: S101 (asked by the caller)
        first = wave.first + wave.sent
        while size:
            try:
                self._array(first, size, wave.needs)
            except SlurmAwayError:
                raise
            except SlurmError as error:
                if not _FULL.search(str(error)):
                    raise checks.refusal(str(error)) from None
                size //= 2
            else:
                return size
        return 0

    def give_up(self) -> None:
        """Say that what is not queued by now never will be: the next command plans it again."""
        if self.ours is not None:
            self.ours.settle([part for part in range(self.ours.count) if part not in self.keys], "unsent")

    def again(self, part: int) -> None:
        """Queue one job a second time: Slurm lost it."""
        assert self.ours is not None  # noqa: S101 (it was queued before)
        self.ours.settle([part], None)
        self._array(part, 1, self.ours.jobs[part].after)

    def _array(self, first: int, count: int, needs: Sequence[str]) -> None:
        assert self.ours is not None  # noqa: S101 (asked by the caller)
        batch, self.arrays = self.ours, self.arrays + 1
        name = f"advbench-{self.registry.identity}-{batch.name[-6:]}-{first}-{self.arrays}"
        engine = self._engine(batch.path)
        numbers = f"$(({first} + SLURM_ARRAY_TASK_ID))" if first else "$SLURM_ARRAY_TASK_ID"
        quoted = "'" + str(batch.path / "batch.json").replace("'", "'\\''") + "'"
        shell = f"job {quoted} --part {numbers}"
        parallel = min(count, self.profile.parallel or count)
        wait = self._dependency(needs)
        mark = f"advbench:{self.registry.identity}:{batch.name}:{first}"
        more = {"output": str(batch.path / "slurm-%A.log"), "comment": mark}
        end, pause = time.monotonic() + _AWAY_PATIENCE, 2.0
        while True:
            try:
                slurm = engine.send(name, shell, more, count=count, parallel=parallel, dependency=wait)
                break
            except SlurmAwayError:
                if time.monotonic() > end:
                    raise
                time.sleep(pause)
                pause = min(30.0, 2 * pause)
                with contextlib.suppress(SlurmError):
                    if there := commands.named(name):  # it was taken, only the answer was lost
                        slurm = there
                        break
        array = Array(slurm, first, count)
        batch.add_array(array)
        self.keys.update((part, array.key(part)) for part in range(first, first + count))
        self.last = slurm

    def _dependency(self, needs: Sequence[str]) -> str:
        """Return what an array waits for: the probe, the jobs it needs, and in stages the array before."""
        assert self.ours is not None  # noqa: S101 (asked by the caller)
        waits = [self.probe.dependency] if self.probe.slurm else []
        if self.profile.parallel is not None and self.last:
            waits.append(f"afterany:{self.last}")
        settled = self.ours.settled() if needs else {}
        wanted = []
        for need in needs:
            part = self.numbers.get(need)
            if part is not None and part in self.keys and part not in settled:
                wanted.append(self.keys[part])
            for other, number in self.theirs.get(need, ()):
                if number not in other.settled():
                    wanted.append(other.keys()[number])
        if wanted:
            waits.append(":".join(("afterok", *dict.fromkeys(wanted))))
        return ",".join(waits)
