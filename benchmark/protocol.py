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
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    TypeAdapter,
    ValidationError,
)

from advbench.benchmark.files import read_toml

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


class ProtocolError(ValueError):
    """A protocol that cannot be read; the message is one line naming file, key and hint."""


def exact(value: object) -> Fraction:
    """Read an exact fraction such as "8/255"; a float is refused, since 0.031 is not 8/255.

    Raises:
        ValueError: if the value is not a string "a/b" or an integer.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f'write an exact fraction as a string, such as "8/255", not {value!r}')  # noqa: TRY004 (pydantic reports ValueError)
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f'write an exact fraction as a string, such as "8/255", not {value!r}') from error


def positive(value: Fraction) -> Fraction:
    """Refuse a fraction that is not above zero."""
    if value <= 0:
        raise ValueError(f"must be above 0, got {value}")
    return value


def _exact_positive(value: object) -> Fraction:
    return positive(exact(value))


Exact = Annotated[Fraction, BeforeValidator(_exact_positive), PlainSerializer(str)]
Count = Annotated[int, Strict(), Field(gt=0)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[float, Strict(), Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Data:
    """Which data set, how the validation split is cut from its training set, and how training images are augmented.

    Attributes:
        name: data set, one of `advbench datasets`.
        validation: images held out of the training set for checkpoint selection.
        split_seed: seed of the permutation that cuts the split.
        augment: "crop-flip" (zero padding by `pad`, random crop, flip), "none", or "resized-crop-flip" (ImageNet).
        pad: pixels of zero padding before the crop.
        test: size of the test set cut from data without an official one (digits); 0 means the official test set.
        train_limit: use only this many training images (user protocols; 0: all).
        test_limit: use only this many test images (user protocols; 0: all).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    validation: Count
    split_seed: Natural = 0
    augment: Literal["crop-flip", "none", "resized-crop-flip"] = "crop-flip"
    pad: Natural = 4
    test: Natural = 0
    train_limit: Natural = 0
    test_limit: Natural = 0


@dataclass(frozen=True, slots=True)
class Threat:
    """The ball of the adversary: norm and radius in [0,1] pixel units, clipped to [0,1]."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    norm: Literal["linf"]
    eps: Exact

    def __post_init__(self) -> None:
        """Refuse a radius above the image range."""
        if self.eps > 1:
            raise ValueError(f"eps must be in (0, 1], got {self.eps}")


@dataclass(frozen=True, slots=True)
class InnerBudget:
    """The ceiling of a method's inner maximisation: at most `steps` sign steps of size `step` within eps."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    steps: Count
    step: Exact


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate over training.

    "piecewise": `peak`, divided by 10 at the start of each zero-based epoch in `drops`. "one-cycle": per iteration,
    linear from 0 to `peak` over the first `rise` of all steps, then linear to 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["piecewise", "one-cycle"]
    peak: Positive
    drops: tuple[Count, ...] = ()
    rise: Exact = Fraction(2, 5)

    def __post_init__(self) -> None:
        """Refuse drops that are out of order or that a one-cycle schedule would ignore."""
        if list(self.drops) != sorted(set(self.drops)):
            raise ValueError(f"drops must be increasing epochs, got {list(self.drops)}")
        if self.kind == "one-cycle" and self.drops:
            raise ValueError("a one-cycle schedule takes no drops")
        if self.rise >= 1:
            raise ValueError(f"rise must be below 1, got {self.rise}")

    def learning_rate(self, iteration: int, *, per_epoch: int, epochs: int) -> float:
        """Return the learning rate of a zero-based iteration of a training of `epochs` × `per_epoch` iterations."""
        if self.kind == "piecewise":
            return self.peak / 10.0 ** sum(iteration // per_epoch >= drop for drop in self.drops)
        total = per_epoch * epochs
        rise = float(self.rise) * total
        if iteration < rise:
            return self.peak * iteration / rise
        return self.peak * (total - iteration) / (total - rise)


@dataclass(frozen=True, slots=True)
class Training:
    """The recipe every method is trained under: SGD, schedule, batch and inner budget.

    `weight_decay` applies to every parameter; the last incomplete batch of an epoch is dropped.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    epochs: Count
    batch: Count
    schedule: Schedule
    inner: InnerBudget
    momentum: Positive = 0.9
    weight_decay: Positive = 5e-4

    def __post_init__(self) -> None:
        """Refuse drops after the end of training."""
        if self.schedule.drops and self.schedule.drops[-1] >= self.epochs:
            raise ValueError(f"schedule.drops {list(self.schedule.drops)} reach beyond the {self.epochs} epochs")

    @property
    def first_drop(self) -> float:
        """The fraction of training at which the learning rate first drops; one half under a one-cycle schedule."""
        return self.schedule.drops[0] / self.epochs if self.schedule.drops else 0.5

    def rate_at_end(self, epoch: int, per_epoch: int) -> float:
        """Return the learning rate of the last iteration of a zero-based epoch: what the learning curve shows."""
        last = (epoch + 1) * per_epoch - 1
        return self.schedule.learning_rate(last, per_epoch=per_epoch, epochs=self.epochs)


@dataclass(frozen=True, slots=True)
class Iterated:
    """An attack of sign steps: last iterate, one uniform start, no early stop."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    steps: Count
    step: Exact


@dataclass(frozen=True, slots=True)
class AutoAttackSpec:
    """AutoAttack: its version and the images of one call (a shard, cut by test index)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    version: Literal["standard"]


@dataclass(frozen=True, slots=True)
class Attacks:
    """The complete attack list; none may be missing. `shard` test images make one unit of work of every attack."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    shard: Count
    pgd20: Iterated
    pgd100: Iterated
    cw: Iterated
    autoattack: AutoAttackSpec

    def __post_init__(self) -> None:
        """Keep PGD-20 the 20th iterate of PGD-100: they must share their step."""
        if self.pgd20.step != self.pgd100.step:
            raise ValueError("pgd20.step and pgd100.step must be equal: PGD-20 is an iterate of PGD-100")
        if self.pgd20.steps >= self.pgd100.steps:
            raise ValueError("pgd20.steps must be below pgd100.steps")


@dataclass(frozen=True, slots=True)
class FlagThresholds:
    """When an evaluation counts as suspicious; see flags.py for the meaning of each. Part of the digest."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    margin_points: Positive = 0.2
    margin_images: Count = 5
    zero_gradient_share: Positive = 0.01
    forward_difference: Positive = 1e-4
    forward_repeats: Count = 5
    ratio_pgd_floor: Positive = 0.15
    ratio: Positive = 0.75
    ratio_upper: Positive = 0.85
    p_value: Positive = 0.01
    large_eps: Exact = Fraction(1, 2)
    large_steps: Count = 50
    large_survive: Positive = 0.05
    noise_draws: Count = 10
    low_power_images: Count = 1000
    constant_share: Positive = 0.9
    collapsed_seeds: Positive = 0.5


@dataclass(frozen=True, slots=True)
class Statistics:
    """Level of the tests and draws of the bootstrap behind ranks and ties. Part of the digest."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    alpha: Positive = 0.05
    draws: Count = 10_000
    seed: Natural = 0


@dataclass(frozen=True, slots=True)
class Protocol:
    """One frozen protocol. `digest` identifies it; a correction is a new version under a new name."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    summary: str
    network: str
    data: Data
    threat: Threat
    training: Training
    selection: InnerBudget
    attacks: Attacks
    seeds: tuple[Natural, ...] = (0, 1, 2)
    flags: FlagThresholds = field(default_factory=FlagThresholds)
    statistics: Statistics = field(default_factory=Statistics)

    def __post_init__(self) -> None:
        """Refuse a protocol without seeds or with a seed named twice."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be a list of different integers, got {list(self.seeds)}")

    def shards(self, test_images: int) -> int:
        """Return into how many shards the test set is cut; the last may be short."""
        return -(-test_images // self.attacks.shard)

    def canonical(self) -> dict[str, Any]:
        """Return the protocol as plain JSON data, fractions as "a/b"."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return plain

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
    return "; ".join(messages)


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


def resolve(reference: str) -> Protocol:
    """Return a published protocol by name ("cifar10-linf/1"; "cifar10-linf" means its newest version) or a TOML file.

    Raises:
        ProtocolError: if there is neither; the message has the nearest name, or else lists all.
    """
    known = published()
    if reference in known:
        return known[reference]
    versions = [name for name in known if name.rpartition("/")[0] == reference]
    if versions:
        return known[max(versions, key=lambda name: int(name.rpartition("/")[2]))]
    if reference.endswith(".toml"):
        return Protocol.from_toml(Path(reference))
    near = difflib.get_close_matches(reference, [name.rpartition("/")[0] for name in known], 1)
    hint = f"did you mean {near[0]}?" if near else f"published: {', '.join(sorted(known))}; or give a .toml file"
    raise ProtocolError(f"no protocol {reference!r}; {hint}")
