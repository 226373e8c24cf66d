"""Jobs as plain data: what to train and what to evaluate, with no code in it. Torch-free.

A `RunSpec` names one run; a `Job` is one piece of work on it. Both survive a trip through JSON, so the local executor,
Slurm and a shell (`advbench job FILE`) perform the same thing.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Scalar


@dataclass(frozen=True)
class RunSpec:
    """One run: a method with all its hyper-parameters, under a protocol, with a seed.

    `method` is a method's name. `hyperparameters` holds every field of the method, defaults included. `teachers` maps
    each role of the method to the identity of the teacher's run: another teacher makes another student.
    """

    protocol: Protocol
    method: str
    hyperparameters: dict[str, Scalar]
    seed: int
    teachers: dict[str, str] = dataclasses.field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """The identity of the run, 16 hex digits; kept, since a suite of 100,000 jobs asks for it as often."""
        plain = self.to_plain()
        plain["protocol"] = self.protocol.digest
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A name for people: "digits-linf/1 trades seed 0"."""
        return f"{self.protocol.name} {self.method} seed {self.seed}"

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "protocol": self.protocol.canonical(),
            "method": self.method,
            "hyperparameters": dict(self.hyperparameters),
            "seed": self.seed,
            "teachers": dict(self.teachers),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Read what `to_plain` wrote."""
        return cls(**{**plain, "protocol": Protocol.from_plain(plain["protocol"], "job")})


@dataclass(frozen=True)
class Job:
    """One piece of work: train a run, or attack one checkpoint of it with one family of attacks.

    `shards` are the shards of test images to attack (indices of slices of `protocol.attacks.shard` images).
    `after` lists ids of jobs that must be done before.
    """

    kind: Literal["train", "evaluate"]
    run: RunSpec
    checkpoint: Literal["best", "last"] | None = None
    family: Literal["clean", "pgd", "cw", "examination", "autoattack"] | None = None
    shards: tuple[int, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """A readable identity, unique within a store."""
        if self.kind == "train":
            return f"{self.run.id}-train"
        span = f"{self.shards[0]}-{self.shards[-1]}" if self.shards else "none"
        return f"{self.run.id}-{self.checkpoint}-{self.family}-{span}"

    @property
    def label(self) -> str:
        """A name for people."""
        if self.kind == "train":
            return f"train {self.run.label}"
        return f"{self.family} on {self.checkpoint} of {self.run.label}"

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data."""
        plain = {name: getattr(self, name) for name in ("kind", "checkpoint", "family")}
        return {**plain, "run": self.run.to_plain(), "shards": list(self.shards), "after": list(self.after)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Read what `to_plain` wrote."""
        lists = {"shards": tuple(plain["shards"]), "after": tuple(plain["after"])}
        return cls(**{**plain, **lists, "run": RunSpec.from_plain(plain["run"])})
