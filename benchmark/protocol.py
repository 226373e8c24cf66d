"""Frozen protocols: everything about a comparison but the method, read strictly from TOML.

A protocol fixes data and split, network, threat, training recipe with its inner budget, checkpoint selection, attacks,
thresholds of the flags, statistics and seeds. `Protocol.digest` is the sha256 of its canonical JSON; every record
carries it and no board mixes two. This module is free of torch.
"""

import difflib
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from advbench.benchmark.files import read_toml
from advbench.benchmark.protocol_parts import (
    STRICT,
    Attacks,
    CheckpointSelection,
    Data,
    Engine,
    ExtraData,
    FlagThresholds,
    ImageList,
    InnerBudget,
    Natural,
    Schedule,
    Statistics,
    TeacherFile,
    Threat,
    Training,
    unless,
)
from advbench.benchmark.recipe import Recipe

__all__ = [
    "Attacks",
    "CheckpointSelection",
    "Data",
    "Engine",
    "ExtraData",
    "FlagThresholds",
    "ImageList",
    "InnerBudget",
    "Protocol",
    "ProtocolError",
    "Schedule",
    "Statistics",
    "TeacherFile",
    "Threat",
    "Training",
    "explain",
    "published",
    "resolve",
    "versions",
]


class ProtocolError(ValueError):
    """A protocol that cannot be read; the message is one line naming file, key and hint."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One frozen protocol. `digest` identifies it; a correction is a new version under a new name.

    `guide` is the architecture of the second network of methods that train two; None: that of `network`.
    `teachers` are frozen networks from elsewhere, in place of those that methods require for these roles.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    summary: str
    network: str
    data: Data
    threat: Threat
    training: Training
    selection: CheckpointSelection
    attacks: Attacks
    seeds: tuple[Natural, ...] = (0, 1, 2)
    flags: FlagThresholds = field(default_factory=FlagThresholds)
    statistics: Statistics = field(default_factory=Statistics)
    guide: Annotated[str | None, unless(None)] = None
    teachers: Annotated[tuple[TeacherFile, ...], unless(())] = ()

    def __post_init__(self) -> None:
        """Refuse a protocol without seeds or with a seed named twice."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be a list of different integers, got {list(self.seeds)}")
        if len({teacher.role for teacher in self.teachers}) != len(self.teachers):
            raise ValueError("teachers: two of them have the same role")

    def shards(self, test_images: int) -> int:
        """Return into how many shards the test set is cut; the last may be short."""
        return -(-test_images // self.attacks.shard)

    def canonical(self) -> dict[str, Any]:
        """Return the protocol as plain JSON data, fractions as "a/b"."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return plain

    def differing(self, recipe: Recipe) -> Recipe | None:
        """Return what of a recipe is not the protocol's own training; None if nothing is."""
        training, data = self.training, self.data
        own = Recipe(
            lr=training.schedule.peak,
            weight_decay=training.weight_decay,
            epochs=training.epochs,
            drops=training.schedule.drops if training.schedule.kind == "piecewise" else None,
            augment=data.augment,
            pad=data.pad,
        )
        changed = {name: value for name, value in recipe.plain().items() if value != getattr(own, name)}
        return Recipe(**changed) if changed else None

    def trained_by(self, recipe: Recipe | None) -> "Protocol":
        """Return the protocol with a recipe in place of its training: what a trainer follows; its digest is no board's.

        Raises:
            ProtocolError: for a recipe that fits no training under this protocol; one line.
        """
        if recipe is None:
            return self
        given, plain = recipe.plain(), self.canonical()
        training, data = plain["training"], plain["data"]
        if "drops" in given:
            training["schedule"] = {
                "kind": "piecewise",
                "peak": training["schedule"]["peak"],
                "drops": given.pop("drops"),
            }
        for name, value in given.items():
            part, key = {"lr": (training["schedule"], "peak")}.get(name, (data if name in data else training, name))
            part[key] = value
        return Protocol.from_plain(plain, f"{self.name} by the recipe {recipe}")

    @property
    def digest(self) -> str:
        """The sha256 (hex, 64 characters) of the canonical JSON. The summary is prose and does not count."""
        plain = self.canonical()
        del plain["summary"]
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def slug(self) -> str:
        """The name as a folder name: "cifar10-linf/1" becomes "cifar10-linf-1"."""
        return self.name.replace("/", "-")

    @property
    def official(self) -> bool:
        """Whether this is, to the last digit, a published protocol."""
        return self.digest in {protocol.digest for protocol in published().values()}

    @classmethod
    def from_plain(cls, plain: object, source: str = "protocol") -> Self:
        """Read plain data (parsed TOML or canonical JSON) strictly.

        Raises:
            ProtocolError: on an unknown, missing or impossible key, in one line that names source and key.
        """
        try:
            protocol: Self = _ADAPTER.validate_python(plain)
        except ValidationError as error:
            raise ProtocolError(f"{source}: {explain(error, 'protocol')}") from None
        return protocol

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a TOML file strictly; see `from_plain`.

        Raises:
            ProtocolError: also if it takes the name of a published protocol, or of a version to come, without being it:
                its boards would overwrite the official ones.
        """
        protocol = cls.from_plain(read_toml(path, ProtocolError), str(path))
        series = {name.rpartition("/")[0].casefold() for name in published()}
        claimed = re.sub(r"-\d+$", "", protocol.slug.casefold())
        if not {claimed, protocol.slug.casefold()}.isdisjoint(series) and not protocol.official:
            raise ProtocolError(
                f"{path}: name: {protocol.name!r} belongs to the published protocols, and this is another; "
                "name yours otherwise"
            )
        return protocol


_ADAPTER: TypeAdapter[Any] = TypeAdapter(Protocol)
_MESSAGES = {
    "unexpected_keyword_argument": "unknown key",
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "missing_argument": "missing",
}
"""What pydantic's types of errors are called here."""


def explain(error: ValidationError, whole: str, most: int | None = None) -> str:
    """Return the problems of a ValidationError (at most `most`) on one line, key first; `whole` names the object."""
    messages = []
    for problem in error.errors()[:most]:
        key = ".".join(str(part) for part in problem["loc"]) or whole
        message = _MESSAGES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
        messages.append(f"{key}: {message}")
    return " ".join("; ".join(messages).split())  # a key may be any text


@cache
def published() -> dict[str, Protocol]:
    """All published protocols by name, from the TOML files beside this module."""
    folder = resources.files("advbench.benchmark.protocols")
    found = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            protocol = Protocol.from_plain(tomllib.loads(entry.read_text(encoding="utf-8")), entry.name)
            found[protocol.name] = protocol
    return found


def versions(reference: str) -> list[Protocol]:
    """Return the published protocols of a name ("cifar10-linf"; "cifar10-linf/1" is one), the newest first."""
    known = published()
    if reference in known:
        return [known[reference]]
    names = [name for name in known if name.rpartition("/")[0] == reference]
    return [known[name] for name in sorted(names, key=lambda name: -int(name.rpartition("/")[2]))]


def resolve(reference: str) -> Protocol:
    """Return a published protocol by name ("cifar10-linf/1"; "cifar10-linf" means its newest version) or a TOML file.

    Raises:
        ProtocolError: if there is neither; the message has the nearest name, or else lists all.
    """
    if found := versions(reference):
        return found[0]
    if reference.endswith(".toml"):
        return Protocol.from_toml(Path(reference))
    known = published()
    near = difflib.get_close_matches(reference, [name.rpartition("/")[0] for name in known], 1)
    hint = f"did you mean {near[0]}?" if near else f"published: {', '.join(sorted(known))}; or give a .toml file"
    raise ProtocolError(f"no protocol {reference!r}; {hint}")
