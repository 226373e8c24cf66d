"""Attacks off the main board: L∞ and L2 at any eps, parts of the test set, expectation over transformation (EOT).

The board's own evaluator does it. Its results here are no record, and boards refuse them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from advbench.benchmark.attacks.autoattack_versions import RAND_STAGES
from advbench.benchmark.data.splits import Split
from advbench.benchmark.evaluation.arena import ThreatModel
from advbench.benchmark.evaluation.evaluator import evaluate_shard, require_classes
from advbench.benchmark.protocol import Engine, Protocol, Threat
from advbench.benchmark.records.outcomes import merge
from advbench.benchmark.records.schema import COLUMNS, STAGES, Evaluation
from advbench.benchmark.records.shard_result import EvaluationError, ShardResult
from advbench.benchmark.records.statistics import wilson

ATTACK_FAMILIES = ("clean", "pgd", "cw", "autoattack")
"""The attacks that may be asked for."""
_FEWEST, _FITS = 50, 0.5
"""Images below which, and accuracy below which, nothing is said about the order of labels."""


@dataclass(frozen=True)
class AttackPlan:
    """One threat and the attacks under it.

    Attributes:
        families: some of `ATTACK_FAMILIES`; "clean" is always measured.
        engine: who runs AutoAttack; None: as `evaluate_shard` has it.
        examine: gather the evidence of the flags, too; of a randomised network only outcomes tell.
    """

    threat: ThreatModel
    families: tuple[str, ...] = ATTACK_FAMILIES
    examine: bool = True
    engine: Engine | None = None

    def check(self, shape: Sequence[int], num_classes: int) -> None:
        """Refuse what cannot be measured.

        Raises:
            EvaluationError: for a radius that the threat model refuses, for unknown attacks, or for AutoAttack with
                fewer than four classes; one line.
        """
        self.threat.check(shape)
        odd = [name for name in self.families if name not in ATTACK_FAMILIES]
        if odd:
            raise EvaluationError(f"no family of attacks {odd[0]!r}; there are {', '.join(ATTACK_FAMILIES)}")
        if self.threat.eot and self.engine not in {None, "pyautoattack"}:
            raise EvaluationError("AutoAttack under EOT runs through pyautoattack alone")
        if "autoattack" in self.families:
            require_classes(num_classes)


@dataclass(frozen=True)
class Measurement:
    """Outcomes of one threat on the first `images` test images.

    Attributes:
        predictions: clean predictions, int64 (images,).
        evaluation: columns per image, and the flags where they were examined.
    """

    threat: ThreatModel
    predictions: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    evaluation: Evaluation

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data: outcomes per image, accuracies with their Wilson 95 % intervals, flags."""
        columns = {}
        for name, outcome in self.evaluation.columns.items():
            low, high = wilson(int(outcome.correct.sum()), outcome.n)
            columns[name] = {"accuracy": outcome.accuracy, "interval": [low, high], **outcome.model_dump(mode="json")}
        return {
            "norm": self.threat.norm,
            "eps": str(self.threat.eps),
            "eot": self.threat.eot,
            "columns": columns,
            "predictions": self.predictions.tolist(),
            "flags": [flag.model_dump(mode="json") for flag in self.evaluation.flags if flag.kind == "masking"],
        }


Report = Callable[[str, int, int], None]
"""(family, shards done, shards in all)."""


def under(protocol: Protocol, eps: Fraction) -> Protocol:
    """Return the protocol with another radius, the attacks' steps in proportion; itself where the radius is its own."""
    if eps == protocol.threat.eps:
        return protocol
    factor = eps / protocol.threat.eps
    given = protocol.attacks
    attacks = dataclasses.replace(
        given,
        pgd20=dataclasses.replace(given.pgd20, step=given.pgd20.step * factor),
        pgd100=dataclasses.replace(given.pgd100, step=given.pgd100.step * factor),
        cw=dataclasses.replace(given.cw, step=given.cw.step * factor),
    )
    threat = Threat(protocol.threat.norm, eps if protocol.threat.norm == "l2" else min(eps, Fraction(1)))
    return dataclasses.replace(protocol, attacks=attacks, threat=threat)


def pieces(split: Split, images: int, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (first, x, y) of every shard of the first `images` test images."""
    for first in range(0, images, size):
        yield first, *split.take(range(first, min(first + size, images)))


def measure(
    network: nn.Module,
    split: Split,
    plan: AttackPlan,
    *,
    protocol: Protocol,
    images: int,
    num_classes: int,
    peers: Mapping[str, nn.Module] | None = None,
    on_shard: Report = lambda _family, _done, _total: None,
) -> Measurement:
    """Attack a network under one threat.

    Args:
        network: images in [0,1] to logits.
        split: the test set.
        plan: the threat and the attacks.
        protocol: steps, restarts and shard size come from it; its own radius gives the board's own numbers.
        images: how many test images, from the first on.
        num_classes: logits that the network must give.
        peers: networks by name for the flag on transfer.
        on_shard: called before each shard.

    Raises:
        EvaluationError: for bad input, before any attack.
    """
    families = [family for family in ATTACK_FAMILIES if family in {"clean", *plan.families}]
    families += ["examination"] if plan.examine and not plan.threat.eot else []
    adapted = under(protocol, plan.threat.eps)
    size, results = protocol.attacks.shard, {family: list[ShardResult]() for family in families}
    total = math.ceil(images / size)
    for family in families:
        for first, x, y in pieces(split, images, size):
            on_shard(family, first // size, total)
            result = evaluate_shard(
                network,
                x,
                y,
                first=first,
                family=family,
                protocol=adapted,
                seed=0,
                threat=plan.threat,
                num_classes=num_classes,
                peers=peers,
                autoattack_by=plan.engine,
            )
            results[family].append(result)
    merged = merge(
        results,
        environment=None,
        n_test=images,
        num_classes=num_classes,
        protocol=adapted,
        stages=RAND_STAGES if plan.threat.eot else STAGES,
    )
    predictions = np.concatenate([part.predictions for part in results["clean"]])
    return Measurement(plan.threat, predictions, merged)


def doubt_about_labels(predictions: "np.ndarray[Any, np.dtype[np.int64]]", labels: Tensor, num_classes: int) -> str:
    """Return one line if clean predictions fit the labels far better under another order of classes; "" if not.

    Args:
        predictions: clean predictions (n,); −1 where the network gave none.
        labels: of the same images, (n,).
        num_classes: classes of the data.
    """
    wanted = labels.cpu().numpy()
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (predictions[predictions >= 0], wanted[predictions >= 0]), 1)
    accuracy = np.trace(counts) / len(wanted)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    best = counts[rows, columns].sum() / len(wanted)
    if len(wanted) < _FEWEST or accuracy > best / 2 or best < _FITS:
        return ""
    shift = np.unique((columns - rows) % num_classes)
    order = f"labels shifted by {shift[0]}" if len(shift) == 1 else "the classes in another order"
    return (
        f"clean accuracy is {accuracy:.1%}, with {order} it would be {best:.1%}: are the labels those of the network?"
    )


def document(
    origin: dict[str, Any],
    measurements: Sequence[Measurement],
    *,
    protocol: Protocol,
    images: int,
    test: int,
    data: dict[str, Any],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Return all of it as JSON data; it is no record, and boards refuse it."""
    return {
        "kind": "evaluation off the board",
        "network": origin,
        "protocol": protocol.name,
        "protocol_digest": protocol.digest,
        "data": data,
        "images": images,
        "test": test,
        "subset": images < test,
        "threats": [measurement.to_plain() for measurement in measurements],
        "environment": environment,
    }


def measured_columns(measurements: Sequence[Measurement]) -> list[str]:
    """Return the columns that were measured, in the order of every table."""
    return [name for name in COLUMNS if any(name in measurement.evaluation.columns for measurement in measurements)]
