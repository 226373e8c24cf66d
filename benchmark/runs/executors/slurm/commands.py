"""Ask Slurm: squeue, scontrol and scancel, and sacct where there is one. Torch-free."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from advbench.benchmark.runs.executors.base import ExecutorError
from advbench.benchmark.runs.executors.slurm.profile import minutes

_PATIENCE = 60.0
_AWAY = re.compile(
    r"unable to contact slurm|connection refused|connection timed out|socket timed out|zero bytes|"
    r"unable to establish|backup controller|communication connection failure|controller.*not responding|"
    r"temporarily unable|unexpected message",
    re.IGNORECASE,
)
_UNCONFIGURED = re.compile(r"establish a configuration source|could not find slurm.conf", re.IGNORECASE)
_MANY = 200
"""Jobs named in one command: command lines are finite."""


class SlurmError(ExecutorError):
    """Slurm says no; the message is one line with Slurm's own words."""


class SlurmAwayError(SlurmError):
    """Slurm's controller does not answer: perhaps for a moment only."""


@dataclass(frozen=True)
class ArrayTask:
    """A task of an array in Slurm's queue.

    Attributes:
        key: "123_4": Slurm's job id and the index in the array.
        state: as squeue says it: PENDING, RUNNING, COMPLETING, …
        reason: why it is pending: Resources, Priority, Dependency, …
        user: whose it is.
        node: where it runs.
    """

    key: str
    state: str
    reason: str = ""
    user: str = ""
    node: str = ""


@dataclass(frozen=True)
class SlurmPartition:
    """A partition: the longest time limit, and that of jobs that ask for none, in minutes; None: no limit."""

    name: str
    longest: float | None
    usual: float | None
    nodes: str
    default: bool


@dataclass(frozen=True)
class Node:
    """A node: the host it is, and the address by which Slurm finds it."""

    name: str
    host: str
    address: str


@dataclass(frozen=True)
class Configuration:
    """What of the cluster's settings matters."""

    cluster: str
    max_array: int


def present() -> bool:
    """Whether Slurm's commands are on this machine."""
    return all(shutil.which(name) for name in ("sbatch", "squeue", "scontrol", "scancel", "srun"))


def me() -> str:
    """Return the user as Slurm names it."""
    return pwd.getpwuid(os.getuid()).pw_name


def ask(*command: str) -> str:
    """Return what a command of Slurm prints.

    Raises:
        SlurmAwayError: if the controller does not answer.
        SlurmError: if the command fails otherwise.
    """
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise SlurmAwayError(f"{command[0]} gave no answer in {_PATIENCE:.0f} s") from None
    except OSError as error:
        raise SlurmError(f"{command[0]} cannot be run ({error.strerror})") from None
    if done.returncode:
        raise _refusal(done.stderr or done.stdout or f"{' '.join(command[:2])}: exit status {done.returncode}")
    return done.stdout


def _refusal(output: str) -> SlurmError:
    """Return the error for what a command of Slurm printed."""
    if _UNCONFIGURED.search(output):
        return SlurmError(
            "Slurm's commands are here but no cluster is configured: run this where jobs are queued, or set SLURM_CONF"
        )
    line = " ".join(part.strip() for part in output.replace(" error: ", " ").splitlines() if part.strip())[:500]
    return (SlurmAwayError if _AWAY.search(output) else SlurmError)(line)


def _pairs(line: str) -> dict[str, str]:
    """Read a line of `scontrol -o show`; values with blanks are cut at the first."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def configuration() -> Configuration:
    """Return the cluster's settings."""
    found = {}
    for line in ask("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        found[key.strip()] = value.strip()
    largest = found.get("MaxArraySize", "")
    return Configuration(found.get("ClusterName", "?"), max(1, int(largest) if largest.isdecimal() else 1001))


def partitions() -> dict[str, SlurmPartition]:
    """Return the partitions by name."""
    found = {}
    for line in ask("scontrol", "show", "partition", "-o").splitlines():
        pairs = _pairs(line)
        if "PartitionName" in pairs:
            name, longest = pairs["PartitionName"], _limit(pairs.get("MaxTime"))
            usual = _limit(pairs.get("DefaultTime")) or longest
            found[name] = SlurmPartition(name, longest, usual, pairs.get("Nodes", ""), pairs.get("Default") == "YES")
    return found


def _limit(output: str | None) -> float | None:
    return None if output in {None, "UNLIMITED", "INFINITE", "NONE"} else minutes(str(output))


def nodes(expression: str) -> tuple[Node, ...]:
    """Return the nodes of an expression such as "gpu[01-16]"."""
    if not expression or expression == "(null)":
        return ()
    found = (_pairs(line) for line in ask("scontrol", "show", "node", expression, "-o").splitlines())
    return tuple(
        Node(node["NodeName"], node.get("NodeHostName", node["NodeName"]), node.get("NodeAddr", ""))
        for node in found
        if "NodeName" in node
    )


def queue(users: Iterable[str]) -> dict[str, ArrayTask]:
    """Return all tasks of users that have not ended, by key."""
    found = {}
    form = "%F|%K|%T|%u|%N|%r"
    for line in ask("squeue", "-h", "-r", "-u", ",".join(sorted(set(users))), "-o", form).splitlines():
        array, index, state, user, node, reason = (line.strip().split("|", 5) + [""] * 5)[:6]
        key = f"{array}_{index}" if index.isdecimal() else array
        found[key] = ArrayTask(key, state, "" if reason == "None" else reason, user, node)
    return found


def named(name: str) -> str | None:
    """Return Slurm's id of the array of that name, if it is in the queue."""
    found = ask("squeue", "-h", "-r", "-n", name, "-o", "%F").split()
    return found[0] if found else None


def job_info(key: str) -> dict[str, str]:
    """Return what Slurm knows of a task, also for a while after it ended: JobState, Reason, ExitCode; or nothing.

    Finished jobs are forgotten after some minutes (MinJobAge); accounting, where there is some, knows them longer.
    """
    try:
        lines = ask("scontrol", "show", "job", "-o", key).splitlines()
        if lines and (found := _pairs(lines[0])).get("JobState"):
            return found
    except SlurmAwayError:
        raise
    except SlurmError:
        pass
    try:
        lines = ask("sacct", "-n", "-X", "-P", "-j", key, "-o", "State,ExitCode").splitlines()
    except SlurmError:
        return {}
    state, _, code = lines[0].partition("|") if lines else ("", "", "")
    return {"JobState": state.split()[0], "ExitCode": code} if state.strip() else {}


def cancel(keys: Iterable[str]) -> None:
    """Cancel tasks or whole arrays."""
    every = list(keys)
    for first in range(0, len(every), _MANY):
        ask("scancel", *every[first : first + _MANY])


def requeue(key: str) -> None:
    """Put a running task back into the queue; Slurm ends it."""
    ask("scontrol", "requeue", key)
