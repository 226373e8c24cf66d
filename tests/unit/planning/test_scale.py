"""Planning and status of a paper's whole suite: 540 runs, tens of thousands of shards, in seconds and little memory."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping

import numpy as np
import pytest

from advbench.benchmark import files
from advbench.benchmark.protocol import published
from advbench.benchmark.records.schema import CHECKPOINTS, FAMILIES, Passes
from advbench.benchmark.records.shard_result import ShardResult
from advbench.benchmark.runs.executors.base import JobFunction
from advbench.benchmark.runs.executors.slurm.checks import Cluster
from advbench.benchmark.runs.executors.slurm.commands import Configuration, SlurmPartition
from advbench.benchmark.runs.executors.slurm.dispatch import Dispatch
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.registry import Registry
from advbench.benchmark.runs.executors.slurm.sizing import cut
from advbench.benchmark.runs.plan import MethodFacts, MethodRequest, Suite, plan, runs
from advbench.benchmark.runs.run_folder import MeasuredShard
from advbench.benchmark.runs.store import Store

PROTOCOLS = tuple(
    published()[f"{data}-linf{length}/1"] for data in ("cifar10", "cifar100") for length in ("", "-short", "-wrn")
)
CATALOGUE = {
    f"method{number}": MethodFacts({"beta": 6.0}, {"robust": "method0"} if number % 4 == 3 else {}, 23.0)
    for number in range(30)
}
SUITE = Suite(PROTOCOLS, tuple(MethodRequest(name) for name in CATALOGUE), (0, 1, 2))
SHARDS, DONE = 25, 5
"""Shards of a test set of 10,000 images, and those that are done in each journal: 27,000 of 135,000."""

AT_THE_END = """
import atexit, sys, time
def report():  # not getrusage, whose peak counts what the process was before it became this program
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.process_time(), peak.split()[1], file=sys.stderr)
atexit.register(report)
"""
RESULT = ShardResult("cw", 0, np.full(400, 3), {f"c{number}": np.ones(400, dtype=bool) for number in range(6)})
PLAN = """
import json, sys
from pathlib import Path
from advbench.benchmark.runs.plan import MethodFacts, MethodRequest, Suite, plan
from advbench.benchmark.protocol import published
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.sizing import cut
from advbench.benchmark.runs.status import status
from advbench.benchmark.runs.store import Store
store, names, facts = Store(Path(sys.argv[1])), json.loads(sys.argv[2]), json.loads(sys.argv[3])
catalogue = {name: MethodFacts(*fact) for name, fact in facts.items()}
suite = Suite(tuple(published()[name] for name in names), tuple(map(MethodRequest, catalogue)), (0, 1, 2))
stands = status(store, suite, catalogue)
jobs = cut(plan(suite, store, catalogue), {}, Profile(shards_per_job=4))
print(json.dumps({
    "runs": len(stands),
    "done": sum(run.done for run in stands),
    "jobs": len({job.id for job in jobs}),
    "shards a job": sorted({len(job.shards) for job in jobs}),
    "shards": len({(job.run.id, job.checkpoint, job.family, shard) for job in jobs for shard in job.shards}),
    "shards with repetitions": sum(len(job.shards) for job in jobs),
    "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store of 540 runs that are trained and partly attacked; its entries have the size of real ones."""
    return Store(tmp_path_factory.mktemp("large"))


@pytest.fixture
def filled(large, made, monkeypatch):
    """The large store, filled by whichever test comes first."""
    if large.root.joinpath("filled").exists():
        return large
    monkeypatch.setattr("os.fsync", lambda _: None)
    journals: dict[str, bytes] = {}
    for run in runs(SUITE, CATALOGUE):
        folder = large.folder(run.spec)
        trained = made.train(folder, test=10_000)
        for checkpoint, weights in trained.checkpoints.items():
            if checkpoint not in journals:
                one = MeasuredShard(
                    shard=0, checkpoint_sha256=weights.sha256, environment=made.ENVIRONMENT, seconds=4.0,
                    passes=Passes(forward=40), result=RESULT,
                ).model_dump(mode="json")  # fmt: skip
                journals[checkpoint] = b"".join(files.seal({**one, "shard": shard}) for shard in range(DONE))
            for family in FAMILIES:
                folder.journal(checkpoint, family, trained).write_bytes(journals[checkpoint])
    large.root.joinpath("filled").touch()
    return large


def measure(code: str, *words: str) -> tuple[str, float, float]:
    """Run Python code; return what it prints, its seconds of processor time, and its peak memory in MB."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}  # that takes time
    command = [sys.executable, "-c", AT_THE_END + code, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=bare, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    seconds, kilobytes = done.stderr.splitlines()[-1].split()
    return done.stdout, float(seconds), int(kilobytes) / 1024


def test_plan_and_status_of_540_runs_take_seconds_and_little_memory(filled):
    facts = {name: [dict(one.hyperparameters), dict(one.requires)] for name, one in CATALOGUE.items()}
    names = [protocol.name for protocol in PROTOCOLS]
    said, seconds, megabytes = measure(PLAN, str(filled.root), json.dumps(names), json.dumps(facts))
    journals = 540 * len(CHECKPOINTS) * len(FAMILIES)
    assert json.loads(said) == {
        "runs": 540, "done": 27_000, "jobs": 5 * journals, "shards a job": [4], "shards": 108_000,
        "shards with repetitions": 108_000, "torch": False,
    }  # fmt: skip
    assert journals * DONE == 27_000
    assert journals * (SHARDS - DONE) == 108_000
    assert seconds < 10.0  # measured 2.3
    assert megabytes < 300.0  # measured 67


def test_the_command_status_of_540_runs_takes_seconds_and_little_memory(filled):
    code = "from advbench.benchmark.cli import main; main()"
    said, seconds, megabytes = measure(code, "status", "--store", str(filled.root))
    assert "540 partly done" in said
    assert said.count(f"{DONE * 10}/{SHARDS * 10}") == 540
    assert seconds < 10.0  # measured 1.7
    assert megabytes < 300.0  # measured 50


def test_the_number_of_files_does_not_grow_with_the_shards(store, made):
    spec = next(iter(runs(Suite((made.CIFAR,), (MethodRequest("method0"),), (0,)), CATALOGUE))).spec
    folder = store.folder(spec)
    trained = made.train(folder, test=10_000)

    def attack(shards) -> int:
        for family in FAMILIES:
            for checkpoint in CHECKPOINTS:
                for shard in shards:
                    key = folder.work_key(checkpoint, family, shard, trained)
                    with folder.claim(key) as free:
                        assert free
                        made.attack(folder, trained, family, (shard,), (checkpoint,))
                        folder.retire(key)
        return sum(path.is_file() for path in folder.path.rglob("*"))

    one, all_of_them = attack([0]), attack(range(1, 6))
    assert one == all_of_them
    assert one <= 2 + len(trained.checkpoints) * (1 + len(FAMILIES)) + 1  # run, training; weights, journals; one lock


def test_108000_jobs_become_arrays_that_slurm_takes_and_few_files(filled, tmp_path, monkeypatch):
    """One job for each shard, the most there can be: queued without Slurm, whose answers are made up."""
    jobs = cut(plan(SUITE, filled, CATALOGUE), {}, Profile(shards_per_job=1))
    sent: list[tuple[int, str]] = []

    class Engine:
        def __init__(self, *_words: object) -> None: ...

        def send(self, _name: str, _shell: str, options: Mapping[str, object], *, count=0, dependency="", **_more):
            if "test-only" not in options:
                sent.append((count, dependency))
            return str(len(sent))

    monkeypatch.setattr("advbench.benchmark.runs.executors.slurm.engine.Engine", Engine)
    monkeypatch.setattr("os.fsync", lambda _: None)
    cluster = Cluster(Configuration("made-up", max_array=1001), SlurmPartition("p", None, None, "", default=True), True)
    registry = Registry(Store(tmp_path))
    registry.root.mkdir(parents=True)
    dispatch = Dispatch(registry, Profile(), cluster, ("advbench",))
    began = time.process_time()
    dispatch.prepare(jobs, JobFunction("a:b"), {}, None)
    assert dispatch.send() == len(jobs) == 108_000
    seconds = time.process_time() - began
    assert max(count for count, _ in sent) <= 1001
    assert sum(count for count, _ in sent) == len(jobs)
    assert len(sent) < 4 * 540  # calls of sbatch
    assert sum(path.is_file() for path in registry.root.rglob("*")) <= 6
    assert seconds < 30.0  # measured 2.3, without coverage
