"""Outcomes per image: the shards of an evaluation put together, flags included. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records import flags
from advbench.benchmark.records.flags import TrainingFacts
from advbench.benchmark.records.schema import COLUMNS, STAGES, Bits, Environment, Evaluation, Outcomes
from advbench.benchmark.records.shard_result import Cost, EvaluationError, ShardResult

COLUMNS_OF = {
    "clean": ("clean",),
    "pgd": ("pgd20", "pgd100"),
    "cw": ("cw",),
    "autoattack": ("autoattack",),
}
"""The columns that each family of attacks fills."""
SHOWN = 10
"""Of a list of images in the evidence, this many are kept."""


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
    training: TrainingFacts | None = None,
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
