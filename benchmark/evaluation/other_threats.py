"""Attacks off the main board: L∞ and L2 at any eps, parts of the test set, expectation over transformation (EOT).

Where the board's own evaluator can do it (L∞, no randomness), it does it; the rest is in threats.py. Signs of masking
are looked for in both.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.wrapped_network import View
from advbench.benchmark.data.splits import Split
from advbench.benchmark.evaluation.evaluator import evaluate_shard
from advbench.benchmark.evaluation.threats import FAMILIES, Field, Setting
from advbench.benchmark.protocol import Protocol, Threat
from advbench.benchmark.records.flags import find, raised
from advbench.benchmark.records.outcomes import Cost, ShardResult, gather, merge
from advbench.benchmark.records.schema import COLUMNS, Evaluation, Outcomes
from advbench.benchmark.records.statistics import wilson


@dataclass(frozen=True)
class Measurement:
    """What one threat left of the first `images` test images.

    Attributes:
        predictions: clean predictions, int64 (images,).
        evaluation: columns per image, and the flags where they were examined.
    """

    setting: Setting
    predictions: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    evaluation: Evaluation

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data: outcomes per image, accuracies with their Wilson 95 % intervals, raised flags."""
        columns = {}
        for name, outcome in self.evaluation.columns.items():
            low, high = wilson(int(outcome.correct.sum()), outcome.n)
            columns[name] = {"accuracy": outcome.accuracy, "interval": [low, high], **outcome.model_dump(mode="json")}
        return {
            "norm": self.setting.norm,
            "eps": str(self.setting.eps),
            "eot": self.setting.eot,
            "columns": columns,
            "predictions": self.predictions.tolist(),
            "flags": [flag.model_dump(mode="json") for flag in raised(self.evaluation.flags) if flag.kind == "masking"],
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
    return dataclasses.replace(protocol, attacks=attacks, threat=Threat("linf", min(eps, Fraction(1))))


def pieces(split: Split, images: int, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (first, x, y) of every shard of the first `images` test images."""
    for first in range(0, images, size):
        x, y, _ = next(iter(split.batches(size, torch.arange(first, min(first + size, images)))))
        yield first, x, y


def measure(
    network: nn.Module,
    split: Split,
    setting: Setting,
    *,
    protocol: Protocol,
    images: int,
    num_classes: int,
    seed: int = 0,
    peers: Mapping[str, nn.Module] | None = None,
    on_shard: Report = lambda _family, _done, _total: None,
) -> Measurement:
    """Attack a network under one threat.

    Args:
        network: images in [0,1] to logits.
        split: the test set.
        setting: the threat and the attacks.
        protocol: steps, restarts and shard size come from it; its own radius gives the board's own numbers.
        images: how many test images, from the first on.
        num_classes: logits that the network must give.
        seed: AutoAttack's seeds, and EOT's draws, are derived from it.
        peers: networks by name for the flag on transfer.
        on_shard: called before each shard.

    Raises:
        EvaluationError: for bad input, before any attack.
    """
    board = setting.norm == "linf" and not setting.eot
    families = [family for family in FAMILIES if family in {"clean", *setting.families}]
    families += ["examination"] if setting.examine and not setting.eot else []
    adapted = under(protocol, setting.eps)
    size, results = protocol.attacks.shard, {family: list[ShardResult]() for family in families}
    total = math.ceil(images / size)
    for family in families:
        for first, x, y in pieces(split, images, size):
            on_shard(family, first // size, total)
            if board:
                result = evaluate_shard(
                    network,
                    x,
                    y,
                    first=first,
                    family=family,
                    protocol=adapted,
                    seed=seed,
                    num_classes=num_classes,
                    peers=peers,
                )
            else:
                result = Field(View(network), x, y, first, setting, adapted, seed, dict(peers or {})).run(family)
            results[family].append(result)
    if board:
        merged = merge(results, environment=None, n_test=images, num_classes=num_classes, protocol=adapted)
    else:
        merged = _together(results, adapted, num_classes)
    predictions = np.concatenate([part.predictions for part in results["clean"]])
    return Measurement(setting, predictions, merged)


def _together(results: dict[str, list[ShardResult]], protocol: Protocol, num_classes: int) -> Evaluation:
    """Put the shards of every column together and look for signs of masking; the rand version has fewer stages."""
    columns: dict[str, Outcomes] = {}
    stages: dict[str, Outcomes] = {}
    for parts in results.values():
        for kind, found in (("columns", columns), ("stages", stages)):
            for name in getattr(parts[0], kind):
                costs = [part.costs.get(name, Cost()) for part in parts]
                total = sum(costs, Cost())
                found[name] = Outcomes.pack(
                    np.concatenate([getattr(part, kind)[name] for part in parts]),
                    settings=parts[0].settings.get(name, {}),
                    seconds=total.seconds,
                    passes=total.passes,
                )
    said = np.concatenate([part.predictions for part in results["clean"]])
    predicted_classes = tuple(np.bincount(said[said >= 0], minlength=num_classes).tolist())
    evaluation = Evaluation(columns=columns, stages=stages, predicted_classes=predicted_classes)
    examination = gather(results["examination"]) if "examination" in results else None
    flags = find(evaluation, examination, protocol=protocol, num_classes=num_classes)
    return evaluation.model_copy(update={"flags": flags})


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
        "threats": [one.to_plain() for one in measurements],
        "environment": environment,
    }


def measured_columns(measurements: Sequence[Measurement]) -> list[str]:
    """Return the columns that were measured, in the order of every table."""
    return [name for name in COLUMNS if any(name in one.evaluation.columns for one in measurements)]
