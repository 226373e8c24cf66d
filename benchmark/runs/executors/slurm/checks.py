"""Refuse, before anything is queued, what could not work on this cluster. Torch-free.

A store that nodes do not see is found in two ways. Where the nodes are other machines, a store (or data) on a file
system of this machine alone is refused at once, by the kind of the file system. Where it lies on a shared one, the
first submission to a partition sends a probe ahead: a tiny job that looks for a token in the store and runs advbench.
Arrays wait for it, so that nothing runs in vain even where nobody waits for its outcome.
"""

import dataclasses
import shlex
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from advbench.benchmark import files
from advbench.benchmark.runs.executors.base import ExecutorError
from advbench.benchmark.runs.executors.slurm import commands
from advbench.benchmark.runs.executors.slurm.commands import Configuration, SlurmError, SlurmPartition
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.registry import Registry

LOCAL_FILE_SYSTEMS = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "ramfs", "overlay", "f2fs", "reiserfs", "jfs", "squashfs")
)
PROBE_PATIENCE = 60.0
"""Seconds to wait for the probe before the arrays are queued behind it."""
_UNSEEN, _NO_DATA, _NO_ADVBENCH = 41, 42, 43


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What was found out: the settings, the partition that jobs go to, and whether its nodes are this machine."""

    configuration: Configuration
    partition: SlurmPartition
    at_home: bool


def examine(profile: Profile, paths: Sequence[Path]) -> tuple[Cluster, Profile]:
    """Return the cluster, and the profile with the partition's time limit where none was asked for.

    Args:
        profile: what jobs ask for.
        paths: folders that nodes must see: store and data.

    Raises:
        ExecutorError: in one line, if jobs could not run like that.
    """
    if not commands.present():
        raise ExecutorError(
            "no Slurm on this machine (sbatch is not found): run this where jobs are queued, or leave out "
            "--executor slurm"
        )
    try:
        import submitit  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        raise ExecutorError(
            "--executor slurm needs submitit: pip install 'advbench[slurm]' (then run the same command again)"
        ) from None
    configuration, there = commands.configuration(), commands.partitions()
    partition = _partition(profile, there)
    limit = profile.minutes
    if limit is not None and partition.longest is not None and limit > partition.longest:
        raise ExecutorError(
            f"--time {profile.time}: partition {partition.name} allows {partition.longest:g} minutes at most"
        )
    if limit is None and partition.usual is not None:
        profile = profile.model_copy(update={"time": str(max(1, int(partition.usual)))})
    hosts = commands.nodes(partition.nodes)
    own = {socket.gethostname().split(".")[0], "localhost", "127.0.0.1", "::1"}
    elsewhere = [node for node in hosts if node.host.split(".")[0] not in own and node.address not in own]
    for path in paths if elsewhere else ():
        kind = file_system(path)
        if kind in LOCAL_FILE_SYSTEMS:
            raise ExecutorError(
                f"{path} lies on a file system of this machine alone ({kind}), which node {elsewhere[0].name} does not "
                "see: choose a shared folder with --store (and --data)"
            )
    return Cluster(configuration, partition, not elsewhere), profile


def _partition(profile: Profile, there: dict[str, SlurmPartition]) -> SlurmPartition:
    names = ", ".join(sorted(there)) or "none"
    if profile.partition is None:
        usual = next((partition for partition in there.values() if partition.default), None)
        if usual is None:
            raise ExecutorError(
                f"the cluster has no default partition: choose one with --partition; there are: {names}"
            )
        return usual
    wanted = [there.get(name) for name in profile.partition.split(",")]
    for name, partition in zip(profile.partition.split(","), wanted, strict=True):
        if partition is None:
            raise ExecutorError(f"--partition {name}: there is no such partition; there are: {names}")
    found = [partition for partition in wanted if partition is not None]
    return next((partition for partition in found if partition.longest is not None), found[0])


def file_system(path: Path) -> str:
    """Return the kind of the file system that a path lies on, or would; "" if that is not known."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    resolved, best, kind = path.resolve(), -1, ""
    for line in mounts:
        words = line.split()
        point = Path(words[1].replace("\\040", " "))
        if (resolved == point or point in resolved.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), words[2]
    return kind


@dataclasses.dataclass(frozen=True)
class Probe:
    """A job that looks whether nodes see what they must; `slurm` is its id, "" where none is needed."""

    slurm: str = ""

    @property
    def dependency(self) -> str:
        """What arrays wait for."""
        return f"afterok:{self.slurm}" if self.slurm else ""


def shell(registry: Registry, command: Sequence[str], data: Path | None) -> str:
    """Return the probe's shell lines."""
    seen = shlex.quote(str(registry.root / "identity"))
    lines = [f"test -r {seen} || exit {_UNSEEN}"]
    if data is not None:
        lines.append(f"test -r {shlex.quote(str(data))} || exit {_NO_DATA}")
    words = [*command, "job", "--help"]
    lines.append(f"{shlex.join(words)} > /dev/null || exit {_NO_ADVBENCH}")
    return "\n".join(lines)


def seen(registry: Registry, place: str) -> bool:
    """Whether a probe came back well from a place before."""
    try:
        return place in files.read_sealed(registry.root / "seen.json")
    except (OSError, files.TornError):
        return False


def await_probe(registry: Registry, probe: str, place: str, patience: float = PROBE_PATIENCE) -> Probe:
    """Wait a while for a probe; remember if it comes back well, and go on behind it if it is still in the queue.

    Raises:
        ExecutorError: if a node does not see what it must.
    """
    end, pause = time.monotonic() + patience, 1.0
    while True:
        known = commands.job_info(probe)
        state, code = known.get("JobState", ""), known.get("ExitCode", "").partition(":")[0]
        if state == "COMPLETED":
            _remember(registry, place)
            return Probe()
        if state not in {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING"}:
            node = known.get("BatchHost", "a node")
            raise ExecutorError(_complaint(registry, node, place, code, state))
        if time.monotonic() > end:
            return Probe(probe)
        time.sleep(pause)
        pause = min(5.0, 1.5 * pause)


def _complaint(registry: Registry, node: str, place: str, code: str, state: str) -> str:
    store = registry.store.root.absolute()
    known = {
        str(_UNSEEN): f"{node} does not see the store {store}: choose a shared folder with --store",
        str(_NO_DATA): f"{node} does not see the data: choose a shared folder with --data",
        str(_NO_ADVBENCH): f"{node} cannot run advbench: install it where nodes see it, or say how under setup",
    }
    message = (
        f"the probe job on {place} ended as {state or 'unknown'} with exit code {code or 'unknown'}: nothing was queued"
    )
    return known.get(code, message)


def _remember(registry: Registry, place: str) -> None:
    path = registry.root / "seen.json"
    try:
        known = list(files.read_sealed(path))
    except (OSError, files.TornError):
        known = []
    files.write_sealed(path, sorted({*known, place}))


def refusal(words: str) -> ExecutorError:
    """Return the error of jobs that Slurm refused."""
    return SlurmError(f"Slurm does not take such jobs: {words}")
