"""`run-all` is killed at seeded random moments and started again: nothing is lost, and the numbers are the same.

A few kills here, a hundred and more in `make soak`; $ADVBENCH_KILLS sets their number, $ADVBENCH_SEED where they begin.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from advbench.benchmark.runs.store import Store

PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background hands it down ignored
from advbench.benchmark.cli import main
main()
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
TARGETS = ("command", "worker", "everything")


def start(folder: Path, methods: str) -> subprocess.Popen[str]:
    words = ("run-all", "--protocol", "tiny.toml", "--methods", methods, "--seeds", "0", "--jobs", "2")
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words, "--device", "cpu", "--out", "out"],
        cwd=folder,
        # Coverage measures processes as they end, and says so in a traceback when a signal meets it there.
        env={key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def numbers(folder: Path, but: str = "") -> dict[str, object]:
    """What must not depend on when a run was interrupted: all but times, and but one flag."""
    found = {}
    for _, record in Store(folder / "runs").records():
        curve = [(row.epoch, row.lr, row.loss, row.clean, row.robust, row.passes) for row in record.training.curve]
        columns = {
            (name, key): outcomes.bits
            for name, checkpoint in record.checkpoints.items()
            for key, outcomes in (*checkpoint.evaluation.columns.items(), *checkpoint.evaluation.stages.items())
        }
        weights = {name: (checkpoint.epoch, checkpoint.sha256) for name, checkpoint in record.checkpoints.items()}
        flags = {
            (name, flag.name): flag
            for name, checkpoint in record.checkpoints.items()
            for flag in checkpoint.evaluation.flags
            if flag.name != but
        }
        found[record.run] = (curve, columns, weights, flags, record.training.passes, record.training.images)
    return found


def children(pid: int) -> list[int]:
    """The worker processes of a command."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in words.split()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def watch(process: subprocess.Popen[str], store: Path, until: int) -> tuple[int, bool]:
    """Count what the command writes until so much of it was seen or it ended; return the count and whether it ended.

    Moments are drawn from what is written, not from the clock: how long a run takes differs from start to start.
    """
    seen = set[tuple[str, int]]()
    while len(seen) < until:
        for path in store.rglob("*"):
            try:
                seen.add((str(path), path.stat().st_mtime_ns))
            except FileNotFoundError:
                continue
        try:
            process.communicate(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        return len(seen), True
    return len(seen), False


def kill(folder: Path, methods: str, draw: random.Random, writes: int) -> str:
    """Start the command and kill some of it at a random moment; return what was done, "" if it had ended before."""
    process = start(folder, methods)
    before = sum(1 for _ in (folder / "runs").rglob("*"))
    _, ended = watch(process, folder / "runs", before + draw.randrange(max(1, (writes - before) * 9 // 10)))
    if ended:
        return ""
    time.sleep(draw.uniform(0.0, 0.3))
    family = children(process.pid)
    target, sent = draw.choice(TARGETS), draw.choice(SIGNALS)
    victims = {
        "command": [process.pid],
        "worker": draw.sample(family, min(1, len(family))),
        "everything": [process.pid, *family],
    }[target]
    for victim in victims:
        try:
            os.kill(victim, sent)
        except ProcessLookupError:
            continue
    began = time.monotonic()
    if target == "worker":  # the command goes on without it; then it is stopped as a user would
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert time.monotonic() - began < 30, f"{sent.name} to {target}: it took too long to end"
    while any(map(is_alive, family)):
        assert time.monotonic() - began < 30, f"orphans after {sent.name} to {target}"
        time.sleep(0.1)
    if target == "command" and sent != signal.SIGKILL:
        assert "the same command goes on" in words, (sent.name, words)
    assert "Traceback" not in words
    return f"{sent.name} to {target}"


def killed(place: Any, folder: Path, methods: str, draw: random.Random, kills: int) -> list[str]:
    """Kill the command so many times, then let it end."""
    folder.mkdir()
    shutil.copy(place.folder / "tiny.toml", folder)
    writes = sum(1 for run in Store(place.store).folders() if run.spec.method in methods for _ in run.path.rglob("*"))
    done = [kill(folder, methods, draw, writes) for _ in range(kills)]
    for _ in range(3):  # what a kill of a worker left as failed is tried again
        process = start(folder, methods)
        _, words = process.communicate(timeout=600)
        if process.returncode == 0:
            break
    assert process.returncode == 0, words
    assert not list((folder / "runs").rglob("*.lock")) or not any(
        each.scan().held for each in Store(folder / "runs").folders()
    )
    assert all(each.scan().failures == () for each in Store(folder / "runs").folders())
    return [each for each in done if each]


def test_killed_at_any_moment_the_numbers_are_the_same(place, tmp_path):
    draw = random.Random(int(os.environ.get("ADVBENCH_SEED", "0")))
    assert killed(place, tmp_path / "killed", "standard", draw, 2)
    peers = "transfer-beats-white-box"  # the whole has another network to transfer from
    (found,), whole = numbers(tmp_path / "killed", peers).items(), numbers(place.folder, peers)
    assert whole[found[0]] == found[1]


@pytest.mark.soak
def test_killed_a_hundred_times_the_numbers_are_the_same(place, tmp_path):
    wanted, done = int(os.environ.get("ADVBENCH_KILLS", "100")), list[str]()
    seed = int(os.environ.get("ADVBENCH_SEED", "0"))
    while len(done) < wanted:
        seed += 1
        folder = tmp_path / str(seed)
        done += killed(place, folder, "standard,pgd_at", random.Random(seed), 5)
        assert numbers(folder) == numbers(place.folder), f"seed {seed}: {done}"
        print(f"{len(done)} kills, last seed {seed}", flush=True)
