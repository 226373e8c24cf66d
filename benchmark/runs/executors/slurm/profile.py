"""A cluster profile: what a job asks of Slurm, from a TOML file and the command line. Torch-free.

A file has the keys of `Profile`, and a table `[sbatch]` for anything else that sbatch knows; docs/cluster.md shows one.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advbench.benchmark.files import read_toml

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_COUNTED = ("cpus_per_task", "parallel", "threads", "shards_per_job", "max_queued", "grace")
_WORDS = ("partition", "account", "qos", "mem", "constraint")
_SHORT = 3
"""Minutes; signals come up to a minute early, so shorter jobs are told by SIGTERM at the very end only."""
OWN = {
    "array": "advbench makes the arrays",
    "chdir": "paths in jobs are absolute",
    "comment": "advbench marks its jobs by it",
    "dependency": "advbench makes the dependencies",
    "error": "advbench keeps the logs",
    "job-name": "advbench finds its jobs by it",
    "kill-on-invalid-dep": "advbench makes the dependencies",
    "nodes": "a job has one node",
    "ntasks": "a job has one task",
    "ntasks-per-node": "a job has one task",
    "open-mode": "advbench keeps the logs",
    "output": "advbench keeps the logs",
    "parsable": "advbench reads what sbatch says",
    "requeue": "advbench requeues what stops early",
    "no-requeue": "advbench requeues what stops early",
    "signal": "set grace",
    "test-only": "advbench asks that by itself",
    "wait": "leave out --detach",
    "wrap": "a job is `advbench job FILE`",
}
"""Options of sbatch that are not the user's → why, or what to use."""


class ProfileError(ValueError):
    """A cluster profile that cannot be understood; the message is one line with the mend."""


@dataclass(frozen=True)
class Profile:
    """What jobs ask of Slurm.

    Attributes:
        partition, account, qos, mem, constraint: as sbatch has them; None leaves them to the cluster.
        time: limit of each job, as sbatch has it ("90", "4:00:00", "2-00:00:00"); None: the partition's.
        gpus_per_node: "1", "a100:1"; None: no GPU.
        cpus_per_task: cores of each job.
        threads: threads of each job; None: `cpus_per_task`, at most 8 with a GPU.
        parallel: jobs of one command at once; None: as many as Slurm starts.
        shards_per_job: shards of test images that a job attacks; None: as fits the expected time.
        max_queued: jobs in the queue at once; None: as many as Slurm takes.
        retries: how often a job that failed is tried again.
        grace: seconds before the time limit at which a job prepares to stop.
        setup: shell lines that come before the job.
        sbatch: other options of sbatch, without dashes in front; an empty value is a flag.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    gpus_per_node: str | None = None
    cpus_per_task: int = 1
    mem: str | None = None
    constraint: str | None = None
    parallel: int | None = None
    threads: int | None = None
    shards_per_job: int | None = None
    max_queued: int | None = None
    retries: int = 2
    grace: int = 90
    setup: tuple[str, ...] = ()
    sbatch: Mapping[str, str] = field(default_factory=dict)

    @property
    def minutes(self) -> float | None:
        """The time limit in minutes; None: none is set."""
        return None if self.time is None else minutes(self.time)

    @property
    def notice(self) -> int:
        """Seconds before the time limit at which Slurm says that it comes: `grace`, or a quarter of a short limit."""
        limit = self.minutes
        if limit is None or limit < _SHORT:
            return 1
        return max(1, min(self.grace, int(limit * 60 / 4)))


def minutes(text: str) -> float:
    """Return minutes from a time as Slurm writes it: "30", "30:00", "4:00:00", "2-12", "2-12:00", "2-12:00:00".

    Raises:
        ProfileError: for anything else.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ProfileError(f"time: {text!r} is no time: write minutes, such as 90, or 4:00:00, or 2-00:00:00 with days")
    first, second, third = (int(match[part] or 0) for part in ("first", "second", "third"))
    if match["days"] is not None:
        return (int(match["days"]) * 24 + first) * 60 + second + third / 60
    if match["third"] is not None:
        return first * 60 + second + third / 60
    return first + second / 60


def _count(key: str, value: object) -> int:
    least = 0 if key == "retries" else 1
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ProfileError(f"{key}: must be an integer of at least {least}, got {value!r}")
    return value


def _word(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise ProfileError(f"{key}: must be one line of text, got {value!r}")
    return value.strip()


def _time(key: str, value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _word(key, value)
    if minutes(text) < 1:
        raise ProfileError(f"time: {text!r} is less than a minute")
    return text


def _gpus(key: str, value: object) -> str | None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _word(key, value)
    return None if text == "0" else text


def _lines(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
        raise ProfileError(f'{key}: must be a list of shell lines, such as ["module load cuda"], got {value!r}')
    return tuple(value)


def _options(key: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ProfileError(f"{key}: must be a table of options of sbatch, got {value!r}")
    found: dict[str, str] = {}
    for given, what in value.items():
        name = str(given).replace("_", "-").lstrip("-")
        if name in OWN:
            raise ProfileError(f"{key}.{name}: leave it out: {OWN[name]}")
        if name.replace("-", "_") in KEYS:
            raise ProfileError(f"{key}.{name}: use the key {name.replace('-', '_')} instead")
        if isinstance(what, list | Mapping) or "\n" in str(what):
            raise ProfileError(f"{key}.{name}: must be one value, got {what!r}")
        if what is not False:
            found[name] = "" if what is True else str(what)
    return found


_READERS: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(_COUNTED, _count),
    **dict.fromkeys(_WORDS, _word),
    "retries": _count,
    "time": _time,
    "gpus_per_node": _gpus,
    "setup": _lines,
    "sbatch": _options,
}
KEYS = tuple(field.name for field in dataclasses.fields(Profile))


def profile(file: Path | None = None, given: Mapping[str, object] | None = None) -> Profile:
    """Return the profile of a file, changed by what is given beside it: `setup` and `sbatch` add, others replace.

    Raises:
        ProfileError: for a file that cannot be read, keys that there are not, and values that do not fit.
    """
    settings: dict[str, Any] = {} if file is None else _from_file(file)
    for key, value in _read(given or {}).items():
        if key == "setup":
            settings[key] = (*settings.get(key, ()), *value)
        elif key == "sbatch":
            settings[key] = {**settings.get(key, {}), **value}
        else:
            settings[key] = value
    return Profile(**settings)


def _from_file(path: Path) -> dict[str, Any]:
    plain = read_toml(path, ProfileError)
    try:
        return _read(plain)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from None


def _read(plain: Mapping[str, object]) -> dict[str, Any]:
    found = {}
    for given, value in plain.items():
        key = given.replace("-", "_")
        if key not in KEYS:
            raise ProfileError(f"{given}: unknown key; {_closest(key, KEYS)}")
        found[key] = _READERS[key](key, value)
    return found


def _closest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)} (the rest goes under [sbatch])"


def option(words: Iterable[str]) -> dict[str, str | bool]:
    """Read options of sbatch from a command line: KEY=VALUE, or KEY alone for a flag.

    Raises:
        ProfileError: if one has no key.
    """
    found: dict[str, str | bool] = {}
    for word in words:
        key, is_pair, value = word.lstrip("-").partition("=")
        if not key.strip():
            raise ProfileError(f"--sbatch {word}: write KEY=VALUE, such as mail-user=me@example.org")
        found[key.strip()] = value if is_pair else True
    return found
