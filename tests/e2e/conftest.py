"""A place where `run-all` has run from nothing, once for all that look at what it leaves."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from advbench.benchmark.cli import main
from advbench.benchmark.records.schema import Record
from advbench.benchmark.runs.store import Store

SUITE = ("--protocol", "tiny.toml", "--methods", "standard,pgd_at", "--seeds", "0")
PROTOCOL = """
name = "tiny"
summary = "A few digits, a few epochs: only to see that everything works together."
network = "smallcnn"

[data]
name = "digits"
validation = 100
test = 100
augment = "none"
pad = 0
train_limit = 640
test_limit = 20

[threat]
norm = "linf"
eps = "3/20"

[training]
epochs = 3
batch = 64
schedule = { kind = "one-cycle", peak = 0.2, rise = "2/5" }
inner = { steps = 3, step = "1/15" }

[selection]
steps = 3
step = "1/15"

[attacks]
shard = 10
pgd20 = { steps = 20, step = "3/80" }
pgd100 = { steps = 100, step = "3/80" }
cw = { steps = 20, step = "3/80" }
autoattack = { version = "standard" }
"""


@dataclass(frozen=True)
class Place:
    """A folder with a protocol of the user's and a store; commands run in it, in this process."""

    folder: Path
    suite: tuple[str, ...] = SUITE

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def advbench(self, *words: str, code: int = 0) -> Result:
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(main, words)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    def run_all(self, *words: str, code: int = 0) -> Result:
        return self.advbench("run-all", *SUITE, "--jobs", "2", "--device", "cpu", "--out", "out", *words, code=code)

    def records(self) -> list[Record]:
        return [record for _, record in Store(self.store).records()]

    def snapshot(self) -> dict[str, bytes]:
        files = (path for path in self.store.rglob("*") if path.is_file() and path.suffix != ".lock")
        return {str(path.relative_to(self.store)): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Place:
    """A place where `run-all` has run, once for all worker processes of the suite."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "run-all"
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            run_from_nothing(Place(folder))
            (folder / "ready").touch()
    return Place(folder)


def run_from_nothing(here: Place) -> None:
    here.folder.mkdir(exist_ok=True)
    (here.folder / "tiny.toml").write_text(PROTOCOL, encoding="utf-8")
    words = ("run-all", *SUITE, "--jobs", "2", "--device", "cpu", "--out", "out")
    program = "from advbench.benchmark.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=here.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[22/22] " in done.stderr, "two trainings, two checkpoints, five families"
    assert "PGD-AT" in done.stdout
    assert "wrote out/tiny-tradeoff.png" in done.stdout
