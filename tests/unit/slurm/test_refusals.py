"""What is refused before anything is queued."""

import subprocess
import sys
from pathlib import Path

import pytest

from advbench.benchmark.protocol import published
from advbench.benchmark.runs.estimate import Estimate
from advbench.benchmark.runs.executors.base import ExecutorError
from advbench.benchmark.runs.executors.slurm import checks, commands
from advbench.benchmark.runs.executors.slurm.commands import SlurmError
from advbench.benchmark.runs.executors.slurm.profile import Profile, ProfileError
from advbench.benchmark.runs.executors.slurm.registry import Registry
from advbench.benchmark.runs.executors.slurm.sizing import cut, refuse_short
from advbench.benchmark.runs.store import Store

PROTOCOL = published()["digits-linf/1"]


def test_no_slurm(world, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorError, match="no Slurm on this machine"):
        world.slurm().submit([world.train()], world.function)


def test_slurm_without_a_cluster(tmp_path, monkeypatch):
    scontrol = tmp_path / "scontrol"
    words = "scontrol: error: DNS SRV lookup failed\nscontrol: fatal: Could not establish a configuration source"
    scontrol.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}\nEND\nexit 1\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SlurmError, match="no cluster is configured") as caught:
        commands.configuration()
    assert "\n" not in str(caught.value)


def test_no_submitit(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ExecutorError, match=r"pip install 'advbench\[slurm\]'"):
        world.slurm().submit([world.train()], world.function)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"partition": "nope"}, "--partition nope: there is no such partition; there are: debug, tiny"),
        ({"partition": "tiny", "time": "1-01:00:00"}, "partition tiny allows 1440 minutes at most"),
    ],
)
def test_what_the_cluster_does_not_have(world, settings, said):
    with pytest.raises(ExecutorError, match=said):
        world.slurm(**settings).submit([world.train()], world.function)
    assert not world.cluster.arrays


def test_what_slurm_itself_refuses(world):
    world.cluster.set(refuse="Invalid account or account/partition combination specified")
    with pytest.raises(ExecutorError, match="Slurm does not take such jobs: allocation failure: Invalid account"):
        world.slurm().submit([world.train()], world.function)
    assert not world.cluster.arrays


def test_the_partitions_own_time_limit_counts(world):
    world.slurm(partition="tiny", time=None).submit([world.train()], world.function)
    assert next(iter(world.cluster.arrays.values()))["options"]["time"] == "1"


def test_a_store_on_a_disk_of_this_machine_is_refused(world, monkeypatch):
    world.cluster.set(host="far.away.example")
    monkeypatch.setattr(checks, "file_system", lambda _: "tmpfs")
    with pytest.raises(ExecutorError, match=r"lies on a file system of this machine alone \(tmpfs\), which node n1"):
        world.slurm().submit([world.train()], world.function)
    assert not world.cluster.arrays


@pytest.mark.parametrize(
    "case",
    [("41:0", "n1 does not see the store"), ("42:0", "does not see the data"), ("43:0", "cannot run advbench")],
)
def test_a_probe_that_comes_back_badly_stops_everything(world, monkeypatch, case):
    code, said = case
    world.cluster.set(host="far.away.example", born="PENDING")
    monkeypatch.setattr(checks, "file_system", lambda _: "nfs4")
    world.asleep(checks, lambda: world.cluster.tasks("FAILED", reason="NonZeroExitCode", code=code))
    with pytest.raises(ExecutorError, match=said):
        world.slurm().submit([world.train()], world.function)
    assert [array["options"]["output"] for array in world.cluster.arrays.values()] == ["/dev/null"]


def test_a_probe_is_sent_once_and_arrays_wait_for_one_that_waits(world, monkeypatch):
    world.cluster.set(host="far.away.example")
    monkeypatch.setattr(checks, "file_system", lambda _: "nfs4")
    monkeypatch.setattr(checks.await_probe, "__defaults__", (0.0,))
    world.slurm().submit([world.train(0)], world.function)
    probe, array = world.cluster.arrays
    assert world.cluster.arrays[array]["options"]["dependency"] == f"afterok:{probe}"
    world.cluster.set(born="COMPLETED")
    world.slurm().submit([world.train(1)], world.function)
    world.cluster.set(born="PENDING")
    count = len(world.cluster.arrays)
    world.slurm().submit([world.train(2)], world.function)
    assert len(world.cluster.arrays) == count + 1
    assert "dependency" not in list(world.cluster.arrays.values())[-1]["options"]


def test_the_probes_shell_tells_what_is_missing(world, tmp_path):
    registry = Registry(world.store)
    with registry.locked():
        assert registry.identity == registry.identity
    good, bad = (sys.executable, "-c", ""), (str(tmp_path / "no-such-program"),)
    cases = [(registry, good, None, 0), (registry, good, tmp_path / "gone", 42), (registry, bad, None, 43)]
    cases.append((Registry(Store(tmp_path / "elsewhere")), good, None, 41))
    for where, command, data, code in cases:
        done = subprocess.run(["bash", "-c", checks.shell(where, command, data)], check=False, capture_output=True)
        assert done.returncode == code


def test_the_kind_of_a_file_system_is_that_of_the_longest_mount(tmp_path):
    assert checks.file_system(Path("/proc/self")) == "proc"
    assert checks.file_system(tmp_path / "not" / "there") == checks.file_system(tmp_path)


@pytest.mark.parametrize("basis", ["measured", "assumed"])
def test_a_time_limit_too_short_for_one_epoch_is_refused(world, basis):
    job = world.train()
    epochs = PROTOCOL.training.epochs
    told = {job.id: Estimate(epochs * 3600.0, basis)}
    refuse_short([job], told, Profile(time="61" if basis == "measured" else "21"), tried=True)
    with pytest.raises(
        ProfileError, match="too short for one epoch of train digits-linf/1 trades seed 0: about 60 min"
    ):
        refuse_short([job], told, Profile(time="59" if basis == "measured" else "19"), tried=True)
    if basis == "assumed":  # this machine says nothing about the nodes
        refuse_short([job], told, Profile(time="1"), tried=False)


def test_shards_are_shared_out(world):
    job = world.attack(world.train(), tuple(range(10)))
    measured = {job.id: Estimate(10 * 600.0, "measured")}
    unknown = {job.id: Estimate(None, "unknown")}
    assert [one.shards for one in cut([job], measured, Profile())] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)]
    assert [len(one.shards) for one in cut([job], unknown, Profile())] == [3, 3, 3, 1]
    assert [len(one.shards) for one in cut([job], unknown, Profile(shards_per_job=5))] == [5, 5]
    assert len(cut([job], measured, Profile(time="20"))) == 10  # half the limit, one shard at least
