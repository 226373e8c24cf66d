"""The Slurm executor without Slurm: commands that stand in for sbatch, squeue, scontrol and scancel."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.cluster import cut, placement, refuse_short
from advbench.benchmark.cluster import Profile, ProfileError, minutes, profile
from advbench.benchmark.estimate import Estimate
from advbench.benchmark.executors.courier import Errand, ExecutorError
from advbench.benchmark.executors.slurm import checks, commands, dispatch, executor, queue
from advbench.benchmark.executors.slurm.arrays import groups
from advbench.benchmark.executors.slurm.executor import Slurm
from advbench.benchmark.executors.slurm.node import Attendant, attend
from advbench.benchmark.executors.slurm.registry import Registry, Submission, units
from advbench.benchmark.jobs import Job, RunSpec
from advbench.benchmark.protocol import published
from advbench.benchmark.store import Store

PROTOCOL = published()["digits-linf/1"]

STAND_IN = """
import json, os, pathlib, re, sys, time
home = pathlib.Path(os.environ["STAND_IN"])
state = json.loads((home / "state.json").read_text())
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with (home / "calls").open("a") as handle:
    handle.write(json.dumps([name, *words]) + "\\n")
def stop(message):
    sys.exit(f"{name}: error: {message}")
def save():
    (home / "state.json").write_text(json.dumps(state))
if state["away"]:
    stop("Unable to contact slurm controller (connect failure)")
if name == "sbatch":
    text = pathlib.Path(words[-1]).read_text()
    options = dict(re.findall(r"#SBATCH --([\\w-]+)(?:=(.*))?", text))
    options = {key: value.strip("'") for key, value in options.items()}
    if "test-only" in options:
        if state["refuse"]:
            print("allocation failure: " + state["refuse"], file=sys.stderr); sys.exit(1)
        sys.exit(0)
    count = 1
    if "array" in options:
        first, last = options["array"].partition("%")[0].split("-")
        count = int(last) - int(first) + 1
    if state["room"] is not None and count > state["room"]:
        stop("Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or "
             "time limits)")
    if state["room"] is not None:
        state["room"] -= count
    state["next"] += 1
    number = str(state["next"])
    state["arrays"][number] = {"options": options, "script": text, "count": count}
    for index in range(count):
        key = f"{number}_{index}" if "array" in options else number
        state["tasks"][key] = {"state": state["born"], "reason": "Priority", "user": state["user"]}
    save()
    print(f"Submitted batch job {number}")
elif name == "squeue":
    for key, task in state["tasks"].items():
        array, _, index = key.partition("_")
        if task["state"] in {"PENDING", "RUNNING"} and "-n" not in words:
            print(f"{array}|{index or 'N/A'}|{task['state']}|{task['user']}|n1|{task['reason']}")
elif name == "scontrol" and words[:2] == ["show", "config"]:
    print(f"MaxArraySize            = {state['array']}\\nClusterName             = stand-in")
elif name == "scontrol" and words[:2] == ["show", "partition"]:
    print("PartitionName=debug Default=YES DefaultTime=NONE MaxTime=UNLIMITED Nodes=n1")
    print("PartitionName=tiny Default=NO DefaultTime=00:01:00 MaxTime=1-00:00:00 Nodes=n1")
elif name == "scontrol" and words[:2] == ["show", "node"]:
    print(f"NodeName=n1 NodeHostName={state['host']} NodeAddr={state['host']}")
elif name == "scontrol" and words[:2] == ["show", "job"]:
    if words[-1] not in state["tasks"]:
        stop("Invalid job id specified")
    task = state["tasks"][words[-1]]
    print(f"JobId=1 JobState={task['state']} Reason={task['reason']} ExitCode={task.get('code', '0:0')} BatchHost=n1")
elif name == "scontrol" and words[0] == "requeue":
    state["requeued"].append(words[1]); save()
elif name == "scancel":
    for word in words:
        for key, task in state["tasks"].items():
            if key == word or key.partition("_")[0] == word:
                task["state"] = "CANCELLED"
    save()
else:
    stop("no accounting here")
"""

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


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Cluster:
    """Slurm's commands are stand-ins."""
    home = tmp_path / "cluster"
    (home / "bin").mkdir(parents=True)
    (home / "stand_in.py").write_text(STAND_IN)
    for name in ("sbatch", "squeue", "scontrol", "scancel", "srun", "sacct"):
        script = home / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S -c \'import sys; sys.argv[0] = "{name}"; '
                          f'exec(open("{home}/stand_in.py").read())\' "$@"\n')  # fmt: skip
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(home))
    return Cluster(home)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def errand(tmp_path, monkeypatch) -> Errand:
    """The double for the work can be imported by worker processes."""
    (tmp_path / "double.py").write_text(DOUBLE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return Errand("double:perform", {"diary": str(tmp_path / "diary"), "threads": 2})


@pytest.fixture
def slurm(store) -> Callable[..., Slurm]:
    def make(**settings) -> Slurm:
        return Slurm(store, Profile(**{"partition": "debug", "time": "60", **settings}), ("advbench",))

    return make


def asleep(monkeypatch, module: ModuleType, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Where a module would sleep, no time passes but something happens."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: meanwhile())
    monkeypatch.setattr(module, "time", clock)


def train(seed: int = 0, after: tuple[str, ...] = (), **hyperparameters) -> Job:
    return Job("train", RunSpec(PROTOCOL, "trades", hyperparameters, seed), after=after)


def attack(training: Job, shards: tuple[int, ...] = (0, 1), checkpoint: str = "best") -> Job:
    return Job("evaluate", training.run, checkpoint, "autoattack", shards, (training.id,))  # type: ignore[arg-type]


def suite() -> list[Job]:
    """A teacher, two students, and attacks on all three."""
    teacher = train(0)
    students = [train(seed, (teacher.id,)) for seed in (1, 2)]
    return [teacher, *students, *(attack(one, checkpoint=c) for one in (teacher, *students) for c in ("best", "last"))]


# Profiles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 30), ("30:30", 30.5), ("4:00:00", 240), ("2-12", 3600), ("1-00:30", 1470), ("1-00:00:00", 1440)],
)
def test_times_are_read_as_slurm_reads_them(text, expected):
    assert minutes(text) == expected


def test_the_command_line_changes_the_file(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text(
        'partition = "gpu"\ntime = 90\ngpus-per-node = 2\nsetup = ["module load cuda"]\n[sbatch]\nmail-user = "me"\n'
        "exclusive = true\n"
    )
    found = profile(file, {"partition": "long", "setup": ("source env",), "sbatch": {"mail-user": "you"}})
    assert (found.partition, found.minutes, found.gpus_per_node) == ("long", 90, "2")
    assert found.setup == ("module load cuda", "source env")
    assert found.sbatch == {"mail-user": "you", "exclusive": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('partitoin = "gpu"', "partitoin: unknown key; did you mean partition?"),
        ("zzz = 1", "zzz: unknown key; there are: partition, account"),
        ('cpus_per_task = "8"', "cpus_per_task: must be an integer"),
        ('time = "soon"', "time: 'soon' is no time"),
        ("parallel = 0", "parallel: must be an integer of at least 1"),
        ('setup = "module load cuda"', "setup: must be a list of shell lines"),
        ('[sbatch]\ndependency = "afterok:1"', "sbatch.dependency: leave it out: advbench makes the dependencies"),
        ('[sbatch]\npartition = "x"', "sbatch.partition: use the key partition instead"),
        ("partition =", "not valid TOML"),
    ],
)
def test_a_profile_that_cannot_be_understood_is_refused_in_one_line(tmp_path, text, said):
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    with pytest.raises(ProfileError) as caught:
        profile(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_slurm_need_slurm():
    told = dict.fromkeys(("profile", "partition", "time"), None)
    full = {**dict.fromkeys(placement_names(), None), **told, "executor": "local", "partition": "gpu"}
    with pytest.raises(Refused, match="--partition is for --executor slurm"):
        placement(full)
    chosen = placement({**full, "executor": "slurm", "retries": 0})
    assert chosen is not None
    assert chosen.profile.retries == 0


def placement_names() -> tuple[str, ...]:
    from advbench.benchmark.cli.cluster import CLUSTER_NAMES

    return CLUSTER_NAMES


def test_a_job_computes_on_what_it_asks_for():
    names = dict.fromkeys(placement_names())
    on_cpu = placement({**names, "executor": "slurm", "cpus_per_task": 16})
    on_gpu = placement({**names, "executor": "slurm", "cpus_per_task": 16, "gpus_per_node": "a100:1"})
    assert on_cpu is not None
    assert on_gpu is not None
    assert (on_cpu.device("auto"), on_cpu.threads) == ("cpu", 16)
    assert (on_gpu.device("auto"), on_gpu.threads) == ("cuda", 8)
    assert on_gpu.device("cpu") == "cpu"


# Arrays ---------------------------------------------------------------------------------------------------------------


def test_jobs_that_wait_for_the_same_are_an_array():
    jobs = suite()
    found = groups(jobs, stages=False)
    assert [(len(group.jobs), group.needs) for group in found] == [
        (1, ()),
        (4, (jobs[0].id,)),
        (2, (jobs[1].id,)),
        (2, (jobs[2].id,)),
    ]
    seen: set[str] = set()
    for group in found:
        assert set(group.needs) <= seen
        seen |= {job.id for job in group.jobs}
    assert seen == {job.id for job in jobs}


def test_stages_are_arrays_where_only_so_many_may_run():
    jobs = suite()
    found = groups(jobs, stages=True)
    assert [len(group.jobs) for group in found] == [1, 4, 4]
    assert found[0].jobs == (jobs[0],)
    assert all(group.needs == () for group in found)


def test_dependencies_are_slurms_own(cluster, slurm, errand):
    jobs = suite()
    queued = slurm().submit(jobs, errand)
    assert (queued.jobs, queued.before, queued.unsent) == (len(jobs), 0, 0)
    arrays = cluster.arrays
    waits = [array["options"].get("dependency", "") for array in arrays.values()]
    first = next(iter(arrays))
    assert waits[0] == ""
    assert waits[1] == f"afterok:{first}_0"  # students, and the attacks on the teacher, wait for the teacher
    second = list(arrays)[1]
    keys = {
        f"afterok:{second}_{index}"
        for index, job in enumerate(groups(jobs, stages=False)[1].jobs)
        if job.kind == "train"
    }
    assert set(waits[2:]) == keys
    assert all(array["options"]["kill-on-invalid-dep"] == "yes" for array in list(arrays.values())[1:])
    assert all("requeue" in array["options"] for array in arrays.values())


def test_with_a_throttle_stages_come_one_after_the_other(cluster, slurm, errand):
    slurm(parallel=2).submit(suite(), errand)
    arrays = list(cluster.arrays.items())
    assert [array["options"]["array"] for _, array in arrays] == ["0-0%1", "0-3%2", "0-3%2"]
    assert [array["options"].get("dependency") for _, array in arrays] == [
        None, f"afterany:{arrays[0][0]}", f"afterany:{arrays[1][0]}",
    ]  # fmt: skip


def test_every_job_is_advbench_job_file(cluster, slurm, errand, monkeypatch):
    monkeypatch.setenv("ADVBENCH_METHODS", "/a b.py")
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    made = slurm(
        setup=("module load cuda",), sbatch={"mail-user": "me", "exclusive": ""}, mem="4G", gpus_per_node="a100:1"
    )
    made.submit([train(seed) for seed in range(3)], errand)
    array = next(iter(cluster.arrays.values()))
    batch = next(iter(Registry(made.store).submissions()))
    lines = array["script"].splitlines()
    assert f"exec advbench job '{batch.path / 'batch.json'}' --part $SLURM_ARRAY_TASK_ID" in lines
    assert lines.index("module load cuda") < lines.index("export ADVBENCH_METHODS='/a b.py'")
    for line in (
        "--partition=debug", "--time=60", "--mem=4G", "--gpus-per-node=a100:1", "--mail-user=me", "--exclusive",
        "--signal=B:USR2@90", "--array=0-2%3", "--cpus-per-task=1", "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    assert not any("srun" in line or "submitit.core" in line for line in lines)
    assert "SBATCH_PARTITION" in os.environ  # only sbatch does not see it


def test_arrays_stay_under_the_clusters_limit(cluster, slurm, errand):
    cluster.set(array=4)
    made = slurm()
    made.submit([train(seed) for seed in range(10)], errand)
    assert [array["count"] for array in cluster.arrays.values()] == [4, 4, 2]
    scripts = [array["script"] for array in cluster.arrays.values()]
    assert "--part $((4 + SLURM_ARRAY_TASK_ID))" in scripts[1]
    assert "--part $((8 + SLURM_ARRAY_TASK_ID))" in scripts[2]
    batch = Registry(made.store).submissions()[0]
    assert sorted(batch.keys()) == list(range(10))
    assert len(list(batch.path.iterdir())) < 8  # few files, however many jobs


def test_what_finds_no_room_is_left_for_later(cluster, slurm, errand):
    cluster.set(room=5)
    jobs = [train(seed) for seed in range(8)]
    queued = slurm().submit(jobs, errand)
    assert (queued.jobs, queued.unsent) == (5, 3)
    cluster.set(room=None)
    queued = slurm().submit(jobs, errand)
    assert (queued.jobs, queued.before, queued.unsent) == (3, 5, 0)


def test_no_more_is_queued_than_the_profile_says(cluster, slurm, errand):
    queued = slurm(max_queued=3).submit([train(seed) for seed in range(5)], errand)
    assert (queued.jobs, queued.unsent) == (3, 2)


# Never twice ----------------------------------------------------------------------------------------------------------


def test_nothing_is_queued_twice(cluster, slurm, errand):
    jobs = suite()
    slurm().submit(jobs, errand)
    tasks = len(cluster.read()["tasks"])
    again = slurm().submit(jobs, errand)
    assert (again.jobs, again.before) == (0, len(jobs))
    assert len(cluster.read()["tasks"]) == tasks


def test_only_shards_that_nobody_has_queued_are_queued(cluster, slurm, errand):
    training = train()
    slurm().submit([attack(training, (0, 1, 2))], errand)
    made = slurm()
    made.submit([attack(training, (1, 2, 3, 4))], errand)
    assert Registry(made.store).submissions()[-1].jobs[0].shards == (3, 4)


def test_a_student_waits_for_a_teacher_that_somebody_else_queued(cluster, slurm, errand):
    teacher = train(0)
    slurm().submit([teacher], errand)
    key = next(iter(cluster.read()["tasks"]))
    slurm().submit([teacher, train(1, (teacher.id,))], errand)
    assert list(cluster.arrays.values())[-1]["options"]["dependency"] == f"afterok:{key}"


def test_a_lost_answer_queues_nothing_twice(cluster, slurm, errand, monkeypatch):
    """sbatch was heard, its answer was not: the array is found by its name."""
    real = commands.ask

    def deaf(*command: str) -> str:
        said = real(*command)
        if "sbatch" in command and "Submitted" in said:
            raise commands.SlurmAwayError("Socket timed out on send/recv operation")
        return said

    monkeypatch.setattr("advbench.benchmark.executors.slurm.engine.ask", deaf)
    asleep(monkeypatch, dispatch)
    monkeypatch.setattr(commands, "named", lambda name: max(cluster.arrays))
    queued = slurm().submit([train(seed) for seed in range(3)], errand)
    assert queued.jobs == len(cluster.read()["tasks"]) == 3


# What is refused ------------------------------------------------------------------------------------------------------


def test_no_slurm(slurm, monkeypatch, tmp_path, errand):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutorError, match="no Slurm on this machine"):
        slurm().submit([train()], errand)


def test_no_submitit(cluster, slurm, errand, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ExecutorError, match=r"pip install 'advbench\[slurm\]'"):
        slurm().submit([train()], errand)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"partition": "nope"}, "--partition nope: there is no such partition; there are: debug, tiny"),
        ({"partition": "tiny", "time": "1-01:00:00"}, "partition tiny allows 1440 minutes at most"),
    ],
)
def test_what_the_cluster_does_not_have(cluster, slurm, errand, settings, said):
    with pytest.raises(ExecutorError, match=said):
        slurm(**settings).submit([train()], errand)
    assert not cluster.arrays


def test_what_slurm_itself_refuses(cluster, slurm, errand):
    cluster.set(refuse="Invalid account or account/partition combination specified")
    with pytest.raises(ExecutorError, match="Slurm does not take such jobs: allocation failure: Invalid account"):
        slurm().submit([train()], errand)
    assert not cluster.arrays


def test_the_partitions_own_time_limit_counts(cluster, slurm, errand):
    slurm(partition="tiny", time=None).submit([train()], errand)
    assert next(iter(cluster.arrays.values()))["options"]["time"] == "1"


def test_a_store_on_a_disk_of_this_machine_is_refused(cluster, slurm, errand, monkeypatch):
    cluster.set(host="far.away.example")
    monkeypatch.setattr(checks, "file_system", lambda _: "tmpfs")
    with pytest.raises(ExecutorError, match=r"lies on a file system of this machine alone \(tmpfs\), which node n1"):
        slurm().submit([train()], errand)
    assert not cluster.arrays


@pytest.mark.parametrize(
    "case",
    [("41:0", "n1 does not see the store"), ("42:0", "does not see the data"), ("43:0", "cannot run advbench")],
)
def test_a_probe_that_comes_back_badly_stops_everything(cluster, slurm, errand, monkeypatch, case):
    code, said = case
    cluster.set(host="far.away.example", born="PENDING")
    monkeypatch.setattr(checks, "file_system", lambda _: "nfs4")
    asleep(monkeypatch, checks, lambda: cluster.tasks("FAILED", reason="NonZeroExitCode", code=code))
    with pytest.raises(ExecutorError, match=said):
        slurm().submit([train()], errand)
    assert [array["options"]["output"] for array in cluster.arrays.values()] == ["/dev/null"]


def test_a_probe_is_sent_once_and_arrays_wait_for_one_that_waits(cluster, slurm, errand, monkeypatch):
    cluster.set(host="far.away.example")
    monkeypatch.setattr(checks, "file_system", lambda _: "nfs4")
    monkeypatch.setattr(checks.await_probe, "__defaults__", (0.0,))
    slurm().submit([train(0)], errand)
    probe, array = cluster.arrays
    assert cluster.arrays[array]["options"]["dependency"] == f"afterok:{probe}"
    cluster.set(born="COMPLETED")
    slurm().submit([train(1)], errand)
    cluster.set(born="PENDING")
    count = len(cluster.arrays)
    slurm().submit([train(2)], errand)
    assert len(cluster.arrays) == count + 1
    assert "dependency" not in list(cluster.arrays.values())[-1]["options"]


def test_the_probes_shell_tells_what_is_missing(tmp_path, store):
    registry = Registry(store)
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
def test_a_time_limit_too_short_for_one_epoch_is_refused(basis):
    job = train()
    epochs = PROTOCOL.training.epochs
    told = {job.id: Estimate(epochs * 3600.0, basis)}
    refuse_short([job], told, Profile(time="61" if basis == "measured" else "21"), tried=True)
    with pytest.raises(Refused, match="too short for one epoch of train digits-linf/1 trades seed 0: about 60 min"):
        refuse_short([job], told, Profile(time="59" if basis == "measured" else "19"), tried=True)
    if basis == "assumed":  # this machine says nothing about the nodes
        refuse_short([job], told, Profile(time="1"), tried=False)


def test_shards_are_shared_out():
    job = attack(train(), tuple(range(10)))
    measured = {job.id: Estimate(10 * 600.0, "measured")}
    unknown = {job.id: Estimate(None, "unknown")}
    assert [one.shards for one in cut([job], measured, Profile())] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)]
    assert [len(one.shards) for one in cut([job], unknown, Profile())] == [3, 3, 3, 1]
    assert [len(one.shards) for one in cut([job], unknown, Profile(shards_per_job=5))] == [5, 5]
    assert len(cut([job], measured, Profile(time="20"))) == 10  # half the limit, one shard at least


# What becomes of jobs -------------------------------------------------------------------------------------------------


def first(store: Store) -> Submission:
    return Registry(store).submissions()[0]


def test_the_states_of_the_queue_are_those_of_the_jobs(cluster, slurm, errand, store):
    slurm().submit([train(seed) for seed in range(3)], errand)
    keys = list(cluster.read()["tasks"])
    cluster.tasks("RUNNING", keys[0])
    cluster.tasks("PENDING", keys[1], reason="Resources")
    first(store).set_live(0, {"done": 3.2, "total": 10, "unit": "epoch"})
    said = [entry.said for entry in queue.glance(Registry(store))]
    assert said == ["RUNNING on n1, epoch 3/10", "PENDING (Resources)", "PENDING (Priority)"]


@pytest.mark.parametrize(
    "case",
    [
        ("OUT_OF_MEMORY", "OutOfMemory", "0:125", "failed", "Slurm ended it as OUT_OF_MEMORY: raise --mem"),
        ("TIMEOUT", "TimeLimit", "0:0", "failed", "raise --time"),
        ("CANCELLED", "None", "0:15", "cancelled", "cancelled in Slurm"),
        ("CANCELLED", "DependencyNeverSatisfied", "0:0", "blocked", "it needs what failed"),
    ],
)
def test_a_job_that_left_the_queue_without_a_word(cluster, slurm, errand, store, case):
    state, reason, code, end, said = case
    slurm().submit([train()], errand)
    cluster.tasks(state, reason=reason, code=code)
    assert queue.glance(Registry(store)) == []
    settled = first(store).settled()[0]
    assert settled.end == end
    assert said in settled.reason
    failures = store.folder(train().run).failures()
    assert [failure.reason for failure in failures] == ([settled.reason] if end == "failed" else [])


def test_a_job_that_slurm_has_forgotten_is_lost(cluster, slurm, errand, store):
    slurm().submit([train()], errand)
    cluster.forget(*cluster.read()["tasks"])
    assert queue.glance(Registry(store)) == []
    assert "it left Slurm's queue without a word" in first(store).settled()[0].reason
    assert slurm().submit([train()], errand).jobs == 1  # and can be queued again


def test_while_the_controller_is_away_nothing_is_lost(cluster, slurm, errand, store):
    slurm().submit([train()], errand)
    cluster.set(away=True)
    with pytest.raises(commands.SlurmAwayError):
        queue.glance(Registry(store))
    assert not first(store).settled()


def test_watching_ends_when_all_is_settled(cluster, slurm, errand, store, monkeypatch):
    """Pending, running, away, lost and queued again, done: what the watcher says of it all."""
    jobs = [train(0), train(1)]
    lines: list[str] = []
    events: list[tuple[str, str]] = []
    made = Slurm(store, Profile(partition="debug", time="60", retries=1), ("advbench",), None, lines.append)

    def away() -> None:
        cluster.tasks("RUNNING")
        cluster.set(away=True)

    def lost() -> None:
        cluster.set(away=False)
        cluster.tasks("NODE_FAIL", "101_1", reason="NodeDown", code="1:0")
        first(store).set_live(0, {"key": "101_0", "done": 2, "total": 3, "unit": "epoch", "detail": "two"})

    def done() -> None:
        cluster.tasks("COMPLETED")
        first(store).settle([0, 1], "done")

    script = iter([lambda: cluster.tasks("RUNNING"), away, lost, lambda: None, lambda: None, done, lambda: None])
    asleep(monkeypatch, executor, lambda: [step() for step in itertools.islice(script, 1)])
    outcome = made.execute(jobs, errand, lambda event: events.append((event.kind, event.job.id)))
    assert outcome.clean
    assert [kind for kind, job in events if job == jobs[0].id] == ["started", "progress", "finished"]
    assert any("does not answer" in line for line in lines)
    assert any("answers again" in line for line in lines)
    assert list(cluster.arrays)[-1] == "102"  # the lost one, once more
    assert first(store).keys()[1] == "102_0"


def test_a_job_is_not_queued_again_for_ever(cluster, slurm, errand, store, monkeypatch):
    cluster.set(born="FAILED")
    asleep(monkeypatch, executor)
    outcome = slurm(retries=2).execute([train()], errand, lambda _: None)
    assert len(cluster.arrays) == 3
    assert "Slurm ended it as FAILED" in outcome.failed[0][1]
    assert store.folder(train().run).failures()


def test_cancel_cancels_ours_only(cluster, slurm, errand, store):
    from advbench.benchmark.cli.cluster import cancel

    cluster.set(tasks={"7_0": {"state": "RUNNING", "reason": "None", "user": commands.me()}})
    jobs = [train(seed) for seed in range(3)]
    slurm().submit(jobs, errand)
    root = str(store.root)
    one = CliRunner().invoke(cancel, ["--store", root, jobs[1].run.id[:8]])
    assert (one.exit_code, one.output) == (0, "cancelled 1 jobs\n")
    assert cluster.calls("scancel") == [["scancel", "101_1"]]
    rest = CliRunner().invoke(cancel, ["--store", root])
    assert rest.output == "cancelled 2 jobs\n"
    assert {key: task["state"] for key, task in cluster.read()["tasks"].items()} == {
        "7_0": "RUNNING", "101_0": "CANCELLED", "101_1": "CANCELLED", "101_2": "CANCELLED",
    }  # fmt: skip
    assert "nothing to cancel" in CliRunner().invoke(cancel, ["--store", root]).output
    assert {one.end for one in first(store).settled().values()} == {"cancelled"}


def test_what_others_queued_is_theirs_to_cancel(cluster, slurm, errand, store):
    from advbench.benchmark.cli.cluster import cancel

    cluster.set(user="somebody")
    slurm().submit([train()], errand)
    found = CliRunner().invoke(cancel, ["--store", str(store.root)])
    assert found.exit_code == 1
    assert "1 jobs were queued by somebody, who alone can cancel them" in found.output
    assert not [call for call in cluster.calls("scancel") if len(call) > 1]


# On a node ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_node(cluster, slurm, errand, store, monkeypatch) -> Callable[..., int]:
    """Queue jobs, then do one as a node would."""

    def do(jobs: list[Job], part: int = 0, **settings) -> int:
        if not Registry(store).submissions():
            slurm(**settings).submit(jobs, errand)
            cluster.tasks("RUNNING")
        array, _, index = first(store).keys()[part].partition("_")
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", array)
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", index)
        handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)}
        try:
            return attend(first(store).path / "batch.json", part)
        finally:
            for one, handler in handlers.items():
                signal.signal(one, handler)

    return do


def test_a_job_is_done_as_at_home(on_node, store, tmp_path):
    job = train()
    assert on_node([job]) == 0
    assert first(store).settled()[0].end == "done"
    assert first(store).live(0) == {}
    assert json.loads((tmp_path / "diary").read_text()) == {"job": job.id, "threads": "2"}
    assert on_node([job]) == 0  # requeued after it was done: nothing is done again
    assert len((tmp_path / "diary").read_text().splitlines()) == 1


@pytest.mark.parametrize(("what", "said"), [("fail", "no luck"), ("die", "SIGKILL")])
def test_a_failed_job_is_tried_again_so_often(on_node, cluster, store, what, said):
    jobs = [train(do=what)]
    assert on_node(jobs, retries=1) == 0
    assert cluster.read()["requeued"] == ["101_0"]
    assert first(store).live(0)["failures"] == 1
    assert on_node(jobs) == 1
    assert cluster.read()["requeued"] == ["101_0"]
    settled = first(store).settled()[0]
    assert settled.end == "failed"
    assert said in settled.reason


def test_a_job_that_needs_what_failed_is_not_begun(on_node, store, tmp_path):
    teacher = train(0)
    jobs = [teacher, train(1, (teacher.id,))]
    assert on_node(jobs, 1, parallel=1) == 1
    assert first(store).settled()[1].end == "blocked"
    assert not (tmp_path / "diary").exists()
    first(store).settle([0], "done")
    assert on_node(jobs, 1) == 0
    assert first(store).settled()[1].end == "done"


def test_a_job_that_others_are_at_goes_back(on_node, cluster, store, monkeypatch):
    monkeypatch.setattr("advbench.benchmark.executors.slurm.node._BUSY_PATIENCE", 0.3)
    assert on_node([train(do="busy")]) == 0
    assert cluster.read()["requeued"] == ["101_0"]
    assert first(store).live(0)["failures"] == 0
    assert not first(store).settled()


NODE = """
    import sys
    from pathlib import Path
    from advbench.benchmark.executors.slurm.node import attend
    sys.exit(attend(Path(sys.argv[1]), 0))
"""


def stopped(store: Store, number: int, before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Do the first job in a process of its own, and send it a signal once it is at work."""
    array, _, index = first(store).keys()[0].partition("_")
    surroundings = {**os.environ, "SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": index}
    diary = store.root.parent / "diary"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NODE), str(first(store).path / "batch.json")],
        env=surroundings, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (diary.exists() and first(store).live(0).get("total")) and process.poll() is None:
        time.sleep(0.05)
    before()
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize(
    "case",
    [("COMPLETING", "TimeLimit", True), ("RUNNING", "None", True), ("COMPLETING", "None", False)],
)
def test_a_job_that_is_stopped_goes_back_unless_it_was_cancelled(cluster, slurm, errand, store, case):
    state, reason, back = case
    slurm().submit([train(do="sleep")], errand)
    code, said = stopped(store, signal.SIGTERM, lambda: cluster.tasks(state, reason=reason))
    assert cluster.read()["requeued"] == (["101_0"] if back else [])
    assert ("back into the queue" in said, code) == ((True, 0) if back else (False, 1))
    assert not first(store).settled()
    if not back:
        cluster.forget("101_0")
        queue.glance(Registry(store))
        assert first(store).settled()[0].end == "cancelled"


def test_notice_before_the_time_limit_stops_the_job_in_time(cluster, slurm, errand, store):
    slurm(grace=16).submit([train(do="sleep")], errand)  # one second for the epoch that is under way
    cluster.tasks("RUNNING")
    code, said = stopped(store, signal.SIGUSR2)
    assert (code, cluster.read()["requeued"]) == (0, ["101_0"])
    assert "back into the queue: Slurm needs its place" in said
    assert first(store).live(0)["done"] == 1


def test_a_time_limit_without_progress_fails_in_the_end(cluster, slurm, errand, store, monkeypatch):
    slurm(retries=1, time="90").submit([train()], errand)
    for attempt in (1, 2):
        attendant = Attendant(first(store), 0, "101_0")
        attendant.began -= 80 * 60
        attendant.furthest = 0.5
        attendant.now = {"done": 0.5, "total": 3, "unit": "epoch"}
        handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)}
        assert attendant._stopped("the time limit") == attempt - 1
        for one, handler in handlers.items():
            signal.signal(one, handler)
    settled = first(store).settled()[0]
    assert settled.end == "failed"
    assert "2 times 90 minutes were too short for one epoch: raise --time" in settled.reason
    assert "raise --time" in store.folder(train().run).failures()[0].reason


def test_units_tell_jobs_apart():
    training = train()
    assert units(training) & units(attack(training)) == frozenset()
    assert len(units(attack(training, (0, 1))) & units(attack(training, (1, 2)))) == 1
    assert units(attack(training, (), "best")) != units(attack(training, (), "last"))
