"""`advbench … --executor slurm` on a real Slurm: arrays, kills, time limits, drained nodes, an absent controller."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from advbench.benchmark.cli import main
from advbench.benchmark.records.schema import COLUMNS
from advbench.benchmark.runs.executors.slurm.registry import Registry, units
from advbench.benchmark.runs.run_folder import RunFolder
from advbench.benchmark.runs.store import Store

PROTOCOL = """
name = "tiny"
summary = "A few digits, a few epochs: only to see that everything works together."
network = "smallcnn"

[data]
name = "digits"
validation = 50
test = 100
augment = "none"
pad = 0
train_limit = 320
test_limit = 8

[threat]
norm = "linf"
eps = "2/5"

[training]
epochs = EPOCHS
batch = 64
schedule = { kind = "one-cycle", peak = 0.2, rise = "2/5" }
inner = { steps = 2, step = "1/15" }

[selection]
steps = 2
step = "1/15"

[attacks]
shard = 4
pgd20 = { steps = 20, step = "3/80" }
pgd100 = { steps = 100, step = "3/80" }
cw = { steps = 20, step = "3/80" }
autoattack = { version = "standard" }
"""
SLURM = ("--executor", "slurm", "--device", "cpu")
TIMES = {"created", "seconds", "images_per_second", "peak_memory_bytes"}
WORKER = "advbench.benchmark.runs.executors.worker"


@dataclass(frozen=True)
class Place:
    """A folder with a protocol of the user's and stores; commands run in it."""

    folder: Path

    def store(self, name: str = "runs") -> Store:
        return Store(self.folder / name)

    def run(self, name: str = "runs", method: str = "") -> RunFolder:
        (folder,) = [one for one in self.store(name).folders() if one.path.name.startswith(method)]
        return folder

    def advbench(self, *words: str, code: int = 0) -> Result:
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(main, words)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "advbench", *words],
            cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(PROTOCOL.replace("EPOCHS", "2"))
    (tmp_path / "long.toml").write_text(PROTOCOL.replace("EPOCHS", "60").replace('"tiny"', '"long"'))
    monkeypatch.delenv("ADVBENCH_STORE", raising=False)
    return Place(tmp_path)


def end(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


def freeze(slurm, place, beyond: int = 0) -> int:
    """Wait until the one job has finished more than some epochs, stop its worker in its tracks, return its process."""

    def far() -> bool:
        submissions = Registry(place.store()).submissions()
        return bool(submissions) and int(submissions[-1].live(0).get("done", 0)) > beyond and slurm.processes(WORKER)

    slurm.wait(far, 300)
    (worker,) = slurm.processes(WORKER)
    os.kill(worker, signal.SIGSTOP)
    return worker


def done(slurm, place) -> int:
    return int(Registry(place.store()).submissions()[-1].live(0)["done"])


def weights(folder: RunFolder) -> dict[str, str]:
    trained = folder.trained()
    assert trained is not None
    return {name: one.sha256 for name, one in trained.checkpoints.items()}


def timeless(plain):
    """Return JSON data without what depends on when and how fast it was made."""
    if isinstance(plain, dict):
        return {key: timeless(value) for key, value in plain.items() if key not in TIMES}
    return [timeless(value) for value in plain] if isinstance(plain, list) else plain


def resumed(folder: RunFolder) -> list[int]:
    """Return the epochs at which training went on, from its log."""
    (log,) = (folder.path / "logs").glob("*-train.log")
    return [int(epoch) for epoch in re.findall(r"resumes at epoch (\d+)", log.read_text())]


def test_a_grid_queued_by_two_at_once_runs_once_and_as_at_home(slurm, place):
    suite = ("run-all", "--protocol", "tiny.toml", "--methods", "hat", "--seeds", "0", "--out", "out")
    place.advbench(*suite, "--store", "home", "--jobs", "2", "--device", "cpu")
    slurm.ask("scontrol", "update", "NodeName=n[1-2]", "State=drain", "Reason=tests")

    # Two people submit the same suite at the same moment; another has a job of his own, and one another store.
    foreign = slurm.ask("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 1000")
    both = [place.begin(*suite, *SLURM, "--detach") for _ in range(2)]
    said = [end(process) for process in both]
    assert sorted(int(re.search(r"queued (\d+) jobs", one)[1]) for one in said) == [0, 16], said
    place.advbench("train", "standard", "--protocol", "tiny.toml", "--store", "other", *SLURM, "--detach")
    assert len(slurm.queue()) == 1 + 16 + 1
    registry = Registry(place.store())
    (submission,) = registry.submissions()
    arrays = submission.arrays()
    assert max(array.count for array in arrays) == 5, "as MaxArraySize has it"
    assert sum(array.count for array in arrays) == submission.count == 16
    assert set(Counter(unit for job in submission.jobs for unit in units(job)).values()) == {1}

    # Status says what Slurm says; cancel ends what is of the store it is told, and nothing else.
    shown = place.advbench("status").output
    assert "queued" in shown
    assert "1 PENDING (ReqNodeNotAvail" in shown, shown
    assert "15 PENDING (Dependency)" in shown, shown
    assert "cancelled 1 jobs" in place.advbench("cancel", "--store", "other").output
    assert "nothing to cancel" in place.advbench("cancel", "--store", "other").output
    slurm.wait(lambda: len(slurm.queue()) == 1 + 16)
    assert foreign in slurm.queue()
    slurm.ask("scancel", foreign)

    # The nodes come back, the controller goes away in the middle: the jobs go on, and the command waits for it.
    watching = place.begin(*suite, *SLURM)
    assert watching.stdout is not None
    assert "16 jobs" in watching.stdout.readline(), "it has asked Slurm what there is before anything is away"
    slurm.ask("scontrol", "update", "NodeName=n[1-2]", "State=resume")
    slurm.wait(submission.settled, 300)
    slurm.controller("stop")
    assert "not known" in place.advbench("status").output
    slurm.controller("start")
    end(watching)

    assert {one.end for one in submission.settled().values()} == {"done"}
    assert len(submission.settled()) == 16
    assert registry.submissions() == (submission,), "nobody queued anything a second time"
    ours = {array.slurm for array in arrays}
    lines = (slurm.folder / "jobs.log").read_text().splitlines()
    ran = [line for line in lines if set(re.findall(r"ArrayJobId=(\d+)", line)) & ours]
    assert len(ran) == 16
    assert all("JobState=COMPLETED" in line for line in ran)
    assert "nothing to do" in place.advbench(*suite, *SLURM).output
    assert list((place.folder / "out").iterdir())

    home, here = (place.run(name, "hat").record() for name in ("home", "runs"))
    assert set(here.checkpoints["best"].evaluation.columns) == set(COLUMNS)
    assert timeless(here.model_dump(mode="json")) == timeless(home.model_dump(mode="json"))


def test_a_killed_job_is_tried_again_and_goes_on_from_its_checkpoint(slurm, place):
    train = ("train", "standard", "--protocol", "long.toml")
    watching = place.begin(*train, *SLURM)
    os.kill(freeze(slurm, place), signal.SIGKILL)  # as the system does for want of memory: the job itself sees it
    slurm.wait(lambda: not slurm.processes(WORKER))
    first = done(slurm, place)

    worker = freeze(slurm, place, first)
    second = done(slurm, place)
    for process in (*slurm.processes("--part"), worker):  # the whole job: nobody is left to put it back
        os.kill(process, signal.SIGKILL)
    end(watching)

    (submission,) = Registry(place.store()).submissions()
    assert [array.count for array in submission.arrays()] == [1, 1], "queued again by who watched"
    assert submission.settled()[0].end == "done"
    assert len(resumed(place.run())) == 2
    assert resumed(place.run())[0] >= first
    assert resumed(place.run())[1] >= second > first
    place.advbench(*train, "--store", "home", "--jobs", "2", "--device", "cpu")
    assert weights(place.run()) == weights(place.run("home"))


def test_a_job_that_hits_its_time_limit_goes_on_from_its_checkpoint(slurm, place):
    train = ("train", "standard", "--protocol", "long.toml")
    place.advbench(*train, *SLURM, "--partition", "tiny", "--time", "1", "--detach")
    worker = freeze(slurm, place)
    first = done(slurm, place)
    (submission,) = Registry(place.store()).submissions()
    (key,) = submission.keys().values()
    slurm.ask("scontrol", "update", f"JobId={key}", "EndTime=now")
    slurm.wait(lambda: slurm.queue("%T") != ["RUNNING"], 90)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)
    slurm.wait(lambda: slurm.queue("%T") == ["PENDING"])
    assert "again: the time limit" in place.advbench("status").output
    place.advbench(*train, *SLURM, "--partition", "tiny", "--time", "1")
    assert submission.settled()[0].end == "done"
    assert len(submission.arrays()) == 1, "Slurm put it back itself"
    assert resumed(place.run())
    assert resumed(place.run())[0] >= first
    place.advbench(*train, "--store", "home", "--jobs", "2", "--device", "cpu")
    assert weights(place.run()) == weights(place.run("home"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--partition", "nowhere"), "--partition nowhere: there is no such partition; there are: debug, spare, tiny"),
        (("--partition", "tiny", "--time", "5"), "--time 5: partition tiny allows 1 minutes at most"),
        (("--mem", "9999G"), "Slurm does not take such jobs"),
    ],
)
def test_what_slurm_would_not_take_is_one_line_before_anything_is_queued(slurm, place, words, said):
    result = place.advbench("train", "standard", "--protocol", "tiny.toml", *SLURM, *words, code=2)
    (line,) = result.stderr.strip().splitlines()[-1:]
    assert said in line
    assert not slurm.queue()


def test_without_slurm_it_is_one_line(place, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    result = place.advbench("train", "standard", "--protocol", "tiny.toml", *SLURM, code=2)
    assert "no Slurm on this machine" in result.stderr.strip().splitlines()[-1]
