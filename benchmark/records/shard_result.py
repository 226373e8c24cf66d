"""The result of one shard of an evaluation: what one family of attacks left of some test images. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from advbench.benchmark.records.schema import STAGES, Bits, Passes


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
            message = str(error).partition("\n")[0]
            raise EvaluationError(f"shard result: not readable ({type(error).__name__}: {message}); redo it") from None


def _pack(bits: Bits) -> str:
    return np.packbits(bits).tobytes().hex()


def _unpack(text: str, n: int) -> Bits:
    raw = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    if len(raw) != (n + 7) // 8:
        raise EvaluationError(f"shard result: {len(raw)} bytes of outcomes for {n} images")
    return np.unpackbits(raw, count=n).astype(bool)
