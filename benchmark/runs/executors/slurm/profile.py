"""A cluster profile: what a job asks of Slurm, from a TOML file and the command line. Torch-free.

A file has the keys of `Profile`, and a table `[sbatch]` for anything else that sbatch knows; docs/cluster.md shows one.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError, field_validator

from advbench.benchmark.files import read_toml
from advbench.benchmark.protocol import explain
from advbench.benchmark.records.schema import Part

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\n]*$")]
Positive = Annotated[int, Field(ge=1, strict=True)]
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
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
    """A cluster profile that cannot be understood; the message is one line with the fix."""


class Profile(Part):
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

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    time: Line | None = None
    gpus_per_node: Line | None = None
    cpus_per_task: Positive = 1
    mem: Line | None = None
    constraint: Line | None = None
    parallel: Positive | None = None
    threads: Positive | None = None
    shards_per_job: Positive | None = None
    max_queued: Positive | None = None
    retries: Annotated[int, Field(ge=0, strict=True)] = 2
    grace: Positive = 90
    setup: tuple[str, ...] = ()
    sbatch: dict[str, str] = Field(default={})

    @field_validator("time", "gpus_per_node", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("time")
    @classmethod
    def _long(cls, text: str | None) -> str | None:
        if text is not None and minutes(text) < 1:
            raise ValueError(f"{text!r} is less than a minute")
        return text

    @field_validator("gpus_per_node")
    @classmethod
    def _none(cls, text: str | None) -> str | None:
        return None if text == "0" else text

    @field_validator("sbatch", mode="before")
    @classmethod
    def _options(cls, given: object) -> dict[str, str]:
        if not isinstance(given, Mapping):
            raise ValueError(f"must be a table of options of sbatch, got {given!r}")  # noqa: TRY004 (pydantic's)
        found: dict[str, str] = {}
        for key, value in given.items():
            name = str(key).replace("_", "-").lstrip("-")
            if name in OWN:
                raise ValueError(f"{name}: leave it out: {OWN[name]}")
            if name.replace("-", "_") in cls.model_fields:
                raise ValueError(f"{name}: use the key {name.replace('-', '_')} instead")
            if isinstance(value, list | Mapping) or "\n" in str(value):
                raise ValueError(f"{name}: must be one value, got {value!r}")
            if value is not False:
                found[name] = "" if value is True else str(value)
        return found

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
        raise ProfileError(f"{text!r} is no time: write minutes, such as 90, or 4:00:00, or 2-00:00:00 with days")
    first, second, third = (int(match[part] or 0) for part in ("first", "second", "third"))
    if match["days"] is not None:
        return (int(match["days"]) * 24 + first) * 60 + second + third / 60
    if match["third"] is not None:
        return first * 60 + second + third / 60
    return first + second / 60


def profile(file: Path | None = None, given: Mapping[str, object] | None = None) -> Profile:
    """Return the profile of a file, changed by what is given beside it: `setup` and `sbatch` add, others replace.

    Raises:
        ProfileError: for a file that cannot be read, keys that there are not, and values that do not fit.
    """
    base = Profile() if file is None else _read(read_toml(file, ProfileError), f"{file}: ")
    over = _read(given or {}, "")
    changed = {key: getattr(over, key) for key in over.model_fields_set}
    added = {"setup": base.setup + over.setup, "sbatch": {**base.sbatch, **over.sbatch}}
    return base.model_copy(update=changed | added)


def _read(plain: Mapping[str, object], place: str) -> Profile:
    settings = {key.replace("-", "_"): value for key, value in plain.items()}
    for key in settings.keys() - Profile.model_fields.keys():
        near = difflib.get_close_matches(key, list(Profile.model_fields), n=1, cutoff=0.5)
        known = f"there are: {', '.join(Profile.model_fields)} (the rest goes under [sbatch])"
        raise ProfileError(f"{place}{key}: unknown key; {f'did you mean {near[0]}?' if near else known}")
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        raise ProfileError(place + explain(error, "profile", 1)) from None


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
