"""A Slurm that is not there: its commands are stand-ins, the work is a double."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from advbench.benchmark.protocol import published
from advbench.benchmark.runs.executors.base import JobFunction
from advbench.benchmark.runs.executors.slurm import commands
from advbench.benchmark.runs.executors.slurm.executor import Slurm
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.registry import Registry, Submission
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.store import Store

PROTOCOL = published()["digits-linf/1"]
STAND_IN = Path(__file__).with_name("stand_in.py")
COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "srun", "sacct")

DOUBLE = """
import json, os, signal, time, types
def perform(job, *, diary, threads=1, on_progress, nap=0.0):
    what = job.run.hyperparameters.get("do", "work")
    with open(diary, "a") as handle:
        handle.write(json.dumps({"job": job.id, "threads": os.environ["OMP_NUM_THREADS"]}) + "\\n")
    on_progress(types.SimpleNamespace(done=1, total=3, unit="epoch", detail="one"))
    if what == "fail":
        raise ValueError("no luck")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        time.sleep(120)
    if what == "busy":
        return "busy"
    return "done"
"""


class Cluster:
    """The stand-in for Slurm: its state, and what it was asked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.write(
            away=False, refuse="", room=None, next=100, arrays={}, tasks={}, array=1001, host="localhost",
            requeued=[], user=commands.me(), born="PENDING",
        )  # fmt: skip

    def read(self) -> dict:
        return json.loads((self.home / "state.json").read_text())

    def write(self, **state) -> None:
        (self.home / "state.json").write_text(json.dumps(state))

    def set(self, **changes) -> None:
        self.write(**{**self.read(), **changes})

    def tasks(self, state: str, *keys: str, reason: str = "None", code: str = "0:0") -> None:
        there = self.read()["tasks"]
        for key in keys or tuple(there):
            there[key] |= {"state": state, "reason": reason, "code": code}
        self.set(tasks=there)

    def forget(self, *keys: str) -> None:
        self.set(tasks={key: task for key, task in self.read()["tasks"].items() if key not in keys})

    @property
    def arrays(self) -> dict[str, dict]:
        return self.read()["arrays"]

    def calls(self, name: str) -> list[list[str]]:
        lines = (self.home / "calls").read_text().splitlines() if (self.home / "calls").exists() else []
        return [call for line in lines if (call := json.loads(line))[0] == name]


class World:
    """Everything that a test of the Slurm executor needs."""

    def __init__(self, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster, self.monkeypatch = cluster, monkeypatch
        self.store = Store(tmp_path / "runs")
        self.diary = tmp_path / "diary"
        self.function = JobFunction("double:perform", {"diary": str(self.diary), "threads": 2})

    @property
    def first(self) -> Submission:
        """The submission that came first."""
        return Registry(self.store).submissions()[0]

    def slurm(self, **settings) -> Slurm:
        return Slurm(self.store, Profile(**{"partition": "debug", "time": "60", **settings}), ("advbench",))

    def asleep(self, module: ModuleType, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Where a module would sleep, no time passes but something happens."""
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: meanwhile())
        self.monkeypatch.setattr(module, "time", clock)

    @staticmethod
    def train(seed: int = 0, after: tuple[str, ...] = (), **hyperparameters) -> Job:
        return Job("train", RunSpec(PROTOCOL, "trades", hyperparameters, seed), after=after)

    @staticmethod
    def attack(training: Job, shards: tuple[int, ...] = (0, 1), checkpoint: str = "best") -> Job:
        return Job("evaluate", training.run, checkpoint, "autoattack", shards, (training.id,))  # type: ignore[arg-type]

    def suite(self) -> list[Job]:
        """A teacher, two students, and attacks on all three."""
        teacher = self.train(0)
        students = [self.train(seed, (teacher.id,)) for seed in (1, 2)]
        runs = (teacher, *students)
        return [*runs, *(self.attack(one, checkpoint=name) for one in runs for name in ("best", "last"))]


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    """Slurm's commands are stand-ins, and worker processes can import the double for the work."""
    home = tmp_path / "cluster"
    (home / "bin").mkdir(parents=True)
    for name in COMMANDS:
        script = home / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {STAND_IN} {name} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(home))
    (tmp_path / "double.py").write_text(DOUBLE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return World(Cluster(home), tmp_path, monkeypatch)
