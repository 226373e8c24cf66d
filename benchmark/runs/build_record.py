"""Build the record of a run from what the store holds of it. Torch-free, so a laptop can do it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from advbench.benchmark.files import TornError, read_sealed
from advbench.benchmark.records.flags import TrainingFacts
from advbench.benchmark.records.outcomes import merge
from advbench.benchmark.records.schema import (
    FAMILIES,
    Checkpoint,
    CheckpointName,
    Environment,
    Evaluation,
    Outcomes,
    Record,
)
from advbench.benchmark.records.shard_result import EvaluationError, ShardResult
from advbench.benchmark.records.tuning import FILE
from advbench.benchmark.runs.run_folder import MeasuredShard, RunFolder, StoreError, Trained


def build_record(folder: RunFolder) -> Record:
    """Return the record of a trained run; a family of attacks that is not complete is absent from it.

    Raises:
        StoreError: if the run is not trained, or its results do not fit together; one line.
    """
    trained = folder.trained()
    if trained is None:
        raise StoreError(f"{folder.path}: not trained yet, so there is nothing to record")
    protocol = folder.spec.protocol
    checkpoints = {
        name: Checkpoint(epoch=weights.epoch, sha256=weights.sha256, evaluation=_evaluation(folder, name, trained))
        for name, weights in trained.checkpoints.items()
    }
    return Record.model_validate(
        {
            "run": folder.id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "protocol": protocol.canonical(),
            "protocol_name": protocol.name,
            "protocol_digest": protocol.digest,
            "official": protocol.official,
            "division": "open" if protocol.data.extra and not folder.spec.trial else folder.spec.division,
            "recipe": folder.spec.recipe,
            "tuning": _tuning(folder),
            "network": protocol.network,
            "method": trained.method,
            "seed": folder.spec.seed,
            "data": trained.data,
            "training": trained.training,
            "checkpoints": checkpoints,
        }
    )


def _tuning(folder: RunFolder) -> Any:  # noqa: ANN401 (JSON data, which the record reads)
    """Return how the settings of a tuned run were chosen; None for other runs."""
    if folder.spec.budget is None:
        return None
    try:
        return read_sealed(folder.path / FILE)
    except (OSError, TornError):
        hint = f"`advbench tune {folder.spec.method}` writes it"
        raise StoreError(f"{folder.path / FILE}: missing or torn, so nothing says how it was tuned; {hint}") from None


def _evaluation(folder: RunFolder, checkpoint: CheckpointName, trained: Trained) -> Evaluation:
    """Put the shards of one checkpoint together."""
    whole: dict[str, list[ShardResult]] = {}
    environments: dict[str, Environment] = {}
    mixed: dict[str, list[str]] = {}
    due = range(folder.spec.protocol.shards(trained.data.test))
    for family in FAMILIES:
        measured = folder.shards(checkpoint, family, trained)
        if not due or any(shard not in measured for shard in due):
            continue
        parts = [measured[shard] for shard in due]
        whole[family] = [part.result for part in parts]
        for column in {name for part in whole[family] for name in (*part.columns, *part.stages)}:
            environments[column] = parts[0].environment
            mixed[column] = _devices(parts)
    try:
        evaluation = merge(
            whole,
            environment=None,
            n_test=trained.data.test,
            num_classes=trained.data.num_classes,
            protocol=folder.spec.protocol,
            training=TrainingFacts.of(
                checkpoint,
                trained.checkpoints[checkpoint].epoch,
                trained.training,
                robust=trained.method.robust,
                images=trained.data.validation,
            ),
        )
    except EvaluationError as error:
        raise StoreError(f"{folder.path / 'evaluation' / checkpoint}: {error}") from None
    placed = {
        kind: {name: _placed(outcomes, environments[name], mixed[name]) for name, outcomes in found.items()}
        for kind, found in (("columns", evaluation.columns), ("stages", evaluation.stages))
    }
    return evaluation.model_copy(update=placed)


def _devices(parts: Sequence[MeasuredShard]) -> list[str]:
    return sorted({part.environment.device for part in parts})


def _placed(outcomes: Outcomes, environment: Environment, devices: list[str]) -> Outcomes:
    """Say where a column was measured; shards from several kinds of device are named, since devices round otherwise."""
    settings = outcomes.settings if len(devices) < 2 else {**outcomes.settings, "devices": devices}
    return outcomes.model_copy(update={"environment": environment, "settings": settings})
