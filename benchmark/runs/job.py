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

from pydantic import TypeAdapter

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.recipe import Budget, Recipe
from advbench.benchmark.records.schema import Division, Scalar

_READ: dict[str, TypeAdapter[Any]] = {"recipe": TypeAdapter(Recipe), "budget": TypeAdapter(Budget)}


@dataclass(frozen=True)
class RunSpec:
    """One run: a method with all its hyper-parameters, under a protocol, with a seed.

    `method` is a method's name. `hyperparameters` holds every field of the method, defaults included. `teachers` maps
    each role of the method to the identity of the teacher's run: another teacher makes another student. `recipe` is
    what differs from the protocol's training; `budget` what tuning spent to choose the settings, of a run that shows
    them; a `trial` is a training that tuning chooses from, which is never attacked.
    """

    protocol: Protocol
    method: str
    hyperparameters: dict[str, Scalar]
    seed: int
    teachers: dict[str, str] = dataclasses.field(default_factory=dict)
    recipe: Recipe | None = None
    budget: Budget | None = None
    trial: bool = False

    @property
    def division(self) -> Division:
        """The part of the board that the run belongs to; a trial is on none."""
        if self.trial:
            return "trial"
        return "tuned" if self.budget else "own-recipe" if self.recipe else "closed"

    @property
    def twin(self) -> "RunSpec | None":
        """The run of the closed division that a tuned run repeats to the bit; None where settings differ from any."""
        return dataclasses.replace(self, budget=None) if self.budget and not self.recipe else None

    @cached_property
    def training(self) -> Protocol:
        """The protocol as the run's training follows it: with its recipe, if it has one."""
        return self.protocol.trained_by(self.recipe)

    @cached_property
    def id(self) -> str:
        """The identity of the run, 16 hex digits; kept, since a suite of 100,000 jobs asks for it as often."""
        plain = self.to_plain()
        plain["protocol"] = self.protocol.digest
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A name for people: "digits-linf/1 trades seed 0", with division and recipe where it is not closed."""
        more = "" if self.division == "closed" else f" ({self.division}{f', {self.recipe}' if self.recipe else ''})"
        return f"{self.protocol.name} {self.method} seed {self.seed}{more}"

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data; what makes a run other than closed is there only where it is."""
        more = {
            "recipe": self.recipe and self.recipe.plain(),
            "budget": self.budget and dataclasses.asdict(self.budget),
            "trial": self.trial,
        }
        return {
            "protocol": self.protocol.canonical(),
            "method": self.method,
            "hyperparameters": dict(self.hyperparameters),
            "seed": self.seed,
            "teachers": dict(self.teachers),
            **{name: value for name, value in more.items() if value},
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Read what `to_plain` wrote."""
        read = {"protocol": Protocol.from_plain(plain["protocol"], "job")}
        read |= {name: kind.validate_python(plain[name]) for name, kind in _READ.items() if name in plain}
        return cls(**{**plain, **read})


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
