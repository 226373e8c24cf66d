"""Outcomes per image: what one shard of an evaluation gave, as JSON and back, and shards put together. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records import flags
from advbench.benchmark.records.flags import Training
from advbench.benchmark.records.schema import COLUMNS, STAGES, Bits, Environment, Evaluation, Outcomes, Passes

COLUMNS_OF = {
    "clean": ("clean",),
    "pgd": ("pgd20", "pgd100"),
    "cw": ("cw",),
    "autoattack": ("autoattack",),
}
"""The columns that each family of attacks fills."""
SHOWN = 10
"""Of a list of images in the evidence, this many are kept."""


class EvaluationError(ValueError):
    """An evaluation that cannot be right: bad input, or shards that do not fit; the message is one line."""


@dataclass(frozen=True)
class Cost:
    """What one column took: wall-clock seconds and passes."""

    seconds: float = 0.0
    passes: Passes = field(default_factory=Passes)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.passes + other.passes)


@dataclass(frozen=True)
class ShardResult:
    """What one family of attacks left of the test images first … first + n − 1.

    Attributes:
        family: "clean", "pgd", "cw", "autoattack" or "examination".
        first: test index of the first image.
        predictions: clean predictions (n,), int64; −1 where a logit was not finite.
        columns: for each column whether the image is right on the clean image and on the proposal, bool (n,).
        stages: the same after each attack of AutoAttack, cumulative.
        costs: cost of each column, stage and examination; AutoAttack's column is the sum of its stages.
        settings: settings of each column, JSON data, the same in every shard.
        evidence: counts that add up over shards; keys with "max_" take the largest, lists the first ten. Keys with
            "column:" belong to a column.
        warnings: what the attack engine had to say.
    """

    family: str
    first: int
    predictions: NDArray[np.int64]
    columns: dict[str, Bits] = field(default_factory=dict)
    stages: dict[str, Bits] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Images in the shard."""
        return len(self.predictions)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the whole shard."""
        return self._total.seconds

    @property
    def passes(self) -> Passes:
        """Passes of the whole shard, the evaluator's own judgement included."""
        return self._total.passes

    @property
    def _total(self) -> Cost:
        return sum((cost for name, cost in self.costs.items() if name not in STAGES), Cost())

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data; outcomes as hex of numpy.packbits."""
        return {
            "family": self.family,
            "first": self.first,
            "n": self.n,
            "predictions": self.predictions.tolist(),
            "columns": {name: _pack(bits) for name, bits in self.columns.items()},
            "stages": {name: _pack(bits) for name, bits in self.stages.items()},
            "costs": {
                name: {"seconds": cost.seconds, "passes": cost.passes.model_dump()} for name, cost in self.costs.items()
            },
            "settings": self.settings,
            "evidence": self.evidence,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_plain` wrote.

        Raises:
            EvaluationError: if it is anything else; one line.
        """
        try:
            n = int(plain["n"])
            predictions = np.asarray(plain["predictions"], dtype=np.int64).reshape(n)
            return cls(
                family=str(plain["family"]),
                first=int(plain["first"]),
                predictions=predictions,
                columns={name: _unpack(text, n) for name, text in plain["columns"].items()},
                stages={name: _unpack(text, n) for name, text in plain["stages"].items()},
                costs={
                    name: Cost(float(cost["seconds"]), Passes.model_validate(cost["passes"]))
                    for name, cost in plain["costs"].items()
                },
                settings=dict(plain["settings"]),
                evidence=dict(plain["evidence"]),
                warnings=tuple(plain["warnings"]),
            )
        except EvaluationError:
            raise
        except (KeyError, TypeError, AttributeError, ValidationError, ValueError) as error:
            said = str(error).partition("\n")[0]
            raise EvaluationError(f"shard result: not readable ({type(error).__name__}: {said}); redo it") from None


def _pack(bits: Bits) -> str:
    return np.packbits(bits).tobytes().hex()


def _unpack(text: str, n: int) -> Bits:
    raw = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    if len(raw) != (n + 7) // 8:
        raise EvaluationError(f"shard result: {len(raw)} bytes of outcomes for {n} images")
    return np.unpackbits(raw, count=n).astype(bool)


def gather(shards: Sequence[ShardResult]) -> dict[str, Any]:
    """Put the evidence of shards together: counts add up, "max_" takes the largest, lists keep their first ten."""
    together: dict[str, Any] = {}
    for shard in shards:
        for key, value in shard.evidence.items():
            if key not in together:
                together[key] = list(value) if isinstance(value, list) else value
            elif isinstance(value, list):
                together[key] += value
            else:
                together[key] = max(together[key], value) if key.startswith("max_") else together[key] + value
    return {key: value[:SHOWN] if isinstance(value, list) else value for key, value in together.items()}


def complete(shards: Sequence[ShardResult], n_test: int, size: int) -> bool:
    """Whether the shards cover the images 0 … n_test − 1 in order, cut after every `size` images.

    Raises:
        EvaluationError: if they overlap, leave a gap, are cut elsewhere or go beyond the end.
    """
    reached = 0
    for shard in shards:
        if shard.n != size and shard.first + shard.n != n_test:
            raise EvaluationError(f"{shard.family}: the shard at image {shard.first} has {shard.n} images, not {size}")
        if shard.first != reached:
            raise EvaluationError(
                f"{shard.family}: a shard starts at image {shard.first} where {reached} is due: pass shards in order"
            )
        reached += shard.n
    if reached > n_test:
        raise EvaluationError(f"{shards[0].family}: shards hold {reached} images, the test set {n_test}")
    return reached == n_test


def merge(
    shards: Mapping[str, Sequence[ShardResult]],
    *,
    environment: Environment | None,
    n_test: int,
    num_classes: int,
    protocol: Protocol,
    training: Training | None = None,
    stages: Sequence[str] = STAGES,
) -> Evaluation:
    """Put shards together into the evaluation of one checkpoint, flags included.

    The column of an incomplete family is absent; flags that need the examination are "not run" unless it is complete.

    Where "clean" is complete no column exceeds it: an image counts only where the clean family, too, found it right.

    Args:
        shards: for each family its shards in the order of the test set; missing ones only at the end.
        environment: where this was measured.
        n_test: images in the test set.
        num_classes: classes of the data set.
        protocol: the protocol of all of this.
        training: how the checkpoint came to be, for the validity flags.
        stages: the attacks of AutoAttack's version.

    Raises:
        EvaluationError: if shards of a family overlap, leave gaps or were made under different settings.
    """
    size = protocol.attacks.shard
    whole = {family: parts for family, parts in shards.items() if parts and complete(parts, n_test, size)}
    columns: dict[str, Outcomes] = {}
    found_stages: dict[str, Outcomes] = {}
    clean = _join(whole["clean"], "clean", "columns") if "clean" in whole else np.ones(n_test, dtype=bool)
    for family, names in COLUMNS_OF.items():
        parts = whole.get(family)
        if parts is None:
            continue
        for name in names:
            columns[name] = _outcomes(parts, name, "columns", clean, environment)
        if family == "autoattack":
            found_stages = {name: _outcomes(parts, name, "stages", clean, environment) for name in stages}
    predicted: tuple[int, ...] = ()
    if "clean" in whole:
        predictions = np.concatenate([part.predictions for part in whole["clean"]])
        predicted = tuple(np.bincount(predictions[predictions >= 0], minlength=num_classes).tolist())
    ordered = {name: columns[name] for name in COLUMNS if name in columns}
    evaluation = Evaluation(columns=ordered, stages=found_stages, predicted_classes=predicted)
    examination = gather(whole["examination"]) if "examination" in whole else None
    found = flags.find(evaluation, examination, protocol=protocol, num_classes=num_classes, training=training)
    return evaluation.model_copy(update={"flags": found})


def _join(parts: Sequence[ShardResult], name: str, kind: str) -> Bits:
    try:
        return np.concatenate([getattr(part, kind)[name] for part in parts])
    except KeyError:
        raise EvaluationError(f"{parts[0].family}: a shard holds no {name}; redo it") from None


def _outcomes(
    parts: Sequence[ShardResult], name: str, kind: str, clean: Bits, environment: Environment | None
) -> Outcomes:
    settings = dict(parts[0].settings.get(name, {}))
    for part in parts:
        if part.settings.get(name, {}) != settings:
            raise EvaluationError(f"{part.family}: the shard at image {part.first} has other settings; redo it")
    if kind == "columns":
        warnings = sorted({warning for part in parts for warning in part.warnings})
        prefix = f"{name}:"
        noted = {key.removeprefix(prefix): value for key, value in gather(parts).items() if key.startswith(prefix)}
        noted = {key: value for key, value in noted.items() if value}
        settings |= {"warnings": warnings} if warnings else {}
        settings |= {"noted": noted} if noted else {}
    cost = sum((part.costs.get(name, Cost()) for part in parts), Cost())
    return Outcomes.pack(
        _join(parts, name, kind) & clean,
        settings=settings,
        environment=environment,
        seconds=cost.seconds,
        passes=cost.passes,
    )
