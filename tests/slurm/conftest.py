"""A real Slurm for the tests, private and on loopback; each process that runs tests has one of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cluster")
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "scancel")


@dataclass(frozen=True)
class Cluster:
    """A running Slurm of two nodes with one CPU each, arrays of five at most; see `tests/slurm/cluster`."""

    folder: Path

    @property
    def surroundings(self) -> dict[str, str]:
        """The environment of commands that speak to it."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = subprocess.run(
            command, env=self.surroundings, check=False, capture_output=True, text=True, timeout=60
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def queue(self, columns: str = "%i", *more: str) -> list[str]:
        """Return lines of squeue, one for each job and each element of an array."""
        return self.ask("squeue", "-h", "-r", "-o", columns, *more).splitlines()

    def controller(self, action: str) -> None:
        """Stop or start slurmctld."""
        subprocess.run([sys.executable, SCRIPT, "controller", self.folder, action], check=True, timeout=90)

    def processes(self, what: str) -> list[int]:
        """Return the processes of jobs whose command line has a text in it."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and what.encode() in (entry / "cmdline").read_bytes():
                    has = (entry / "environ").read_bytes()
                    if b"SLURM_JOB_ID=" in has and f"SLURM_CONF={self.folder}/".encode() in has:
                        found.append(int(entry.name))
        return found

    def wait(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until something is so; what the cluster says of its jobs is in the failure."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited in vain; the queue: {self.queue('%i %j %T %r', '-t', 'all')}"
            time.sleep(0.1)


def _missing() -> list[str]:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return [name for name in NEEDED if shutil.which(name, path=path) is None]


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    if missing := _missing():
        pytest.skip(f"{missing[0]} is not here: a real Slurm needs Debian's packages slurm-wlm and munge")
    folder = Path(tempfile.mkdtemp(prefix="advbench-slurm-"))  # short: paths of sockets have at most 107 characters
    begin = [sys.executable, SCRIPT, "start", folder, "--cpus", "1", "--set", "MaxArraySize=5", "--set", "KillWait=20"]
    try:
        begun = subprocess.run(
            [*begin, "--while", str(os.getpid())], check=False, text=True, stderr=subprocess.PIPE, timeout=120
        )
        if begun.returncode:
            said = begun.stderr.strip()
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"Slurm is here, but does not start: {said}")
        yield Cluster(folder)
    finally:
        subprocess.run([sys.executable, SCRIPT, "stop", folder], check=True, timeout=60)
        shutil.rmtree(folder)


@pytest.fixture
def slurm(_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A real Slurm with nothing in its queue and all nodes idle; commands run in a test speak to it."""
    monkeypatch.setenv("SLURM_CONF", str(_cluster.folder / "slurm.conf"))
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        monkeypatch.delenv(name)  # jobs take twice as long with it
    yield _cluster
    if "drain" in _cluster.ask("sinfo", "-h", "-o", "%T"):
        _cluster.ask("scontrol", "update", "NodeName=n[1-2]", "State=resume")
    for job in dict.fromkeys(_cluster.queue("%A")):
        for how in ([], ["--signal=KILL", "--full"]):  # cancelled first, so that Slurm does not start it again
            subprocess.run(["scancel", "--quiet", *how, job], env=_cluster.surroundings, check=False, timeout=60)
    _cluster.wait(lambda: not _cluster.queue())
