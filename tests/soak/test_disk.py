"""A disk that is full or read-only: one line, nothing broken, and the same command goes on to the same bits."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from advbench.benchmark.runs.store import Store

pytestmark = pytest.mark.soak
PROTOCOL = """
name = "disk"
summary = "A few digits: only to fill a disk."
network = "smallcnn"
data = { name = "digits", validation = 50, test = 100, augment = "none", pad = 0, train_limit = 640, test_limit = 8 }
threat = { norm = "linf", eps = "3/20" }
[training]
epochs = 40
batch = 64
schedule = { kind = "one-cycle", peak = 0.2, rise = "2/5" }
inner = { steps = 3, step = "1/15" }
[selection]
steps = 3
step = "1/15"
[attacks]
shard = 4
pgd20 = { steps = 20, step = "3/80" }
pgd100 = { steps = 100, step = "3/80" }
cw = { steps = 20, step = "3/80" }
autoattack = { version = "standard" }
"""


def start(folder: Path, words: tuple[str, ...]) -> subprocess.Popen[str]:
    """Train or attack in a folder; the protocol and the logs of the command lie elsewhere."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "advbench",
            *words,
            "--store",
            str(folder),
            "--device",
            "cpu",
            "--jobs",
            "1",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(folder: Path, words: tuple[str, ...]) -> None:
    _, stderr = (process := start(folder, words)).communicate(timeout=600)
    assert process.returncode == 0, stderr


def digests(folder: Path) -> dict[str, str]:
    (run,) = Store(folder).folders()
    trained = run.training_json()
    assert trained is not None
    return {name: weights.sha256 for name, weights in trained.checkpoints.items()}


@pytest.fixture
def words(tmp_path) -> tuple[str, ...]:
    (tmp_path / "disk.toml").write_text(PROTOCOL, encoding="utf-8")
    return ("train", "pgd_at", "--protocol", str(tmp_path / "disk.toml"), "--seeds", "0")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 4 MB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting needs rights that this user has not: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["mount", "-o", "remount,rw", folder], capture_output=True, check=False)
    subprocess.run(["umount", "-l", folder], check=True)


def after_some_epochs(folder: Path) -> None:
    """Wait until training has written its state."""
    end = time.monotonic() + 300
    while not list(folder.rglob("resume-older.pt")):
        assert time.monotonic() < end
        time.sleep(0.05)


def fill(folder: Path) -> None:
    with (folder / "balloon").open("wb", buffering=0) as balloon, contextlib.suppress(OSError):
        while balloon.write(b"\0" * 1024):
            pass


def test_training_ends_in_a_line_where_the_disk_fills_and_goes_on(disk, words, tmp_path):
    finished(tmp_path / "whole", words)
    process = start(disk, words)
    after_some_epochs(disk)
    fill(disk)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1, stderr
    assert "Traceback" not in stderr
    failed = [line for line in stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1
    assert "No space left" in failed[0]
    (disk / "balloon").unlink()
    finished(disk, words)
    assert digests(disk) == digests(tmp_path / "whole")
    (run,) = Store(disk).folders()
    assert run.scan().failures == ()


def test_a_disk_that_is_full_or_read_only_from_the_start_is_said_before_any_work(disk, words):
    fill(disk)
    full = start(disk, words)
    _, stderr = full.communicate(timeout=600)
    assert full.returncode == 2, stderr
    assert "are free there" in stderr.splitlines()[-1]
    (disk / "balloon").unlink()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    locked = start(disk, words)
    _, more = locked.communicate(timeout=600)
    assert locked.returncode != 0
    assert "Read-only" in more
    assert "Traceback" not in stderr + more
