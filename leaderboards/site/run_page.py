"""The page of one run: everything its record says, down to the counts behind each accuracy."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.benchmark.records.schema import (
    CHECKPOINTS,
    COLUMNS,
    STAGES,
    Environment,
    Epoch,
    Evaluation,
    Flag,
    Outcomes,
    Record,
    Teacher,
)
from advbench.benchmark.records.statistics import wilson
from advbench.leaderboards.measures import ACCURACIES
from advbench.leaderboards.site.file_names import slug
from advbench.leaderboards.site.render import page
from advbench.leaderboards.site.source import Filed
from advbench.leaderboards.writers.escaping import display

WIDTH, HEIGHT = 640, 220
"""Of the plot of the learning curve, in user units."""


def render(filed: Filed, board: str, corrected: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """Return the page of the run in a record file.

    Args:
        filed: the record with its file.
        board: file name of its board, without ending.
        corrected: what was corrected at its place, as `past.entries` returns it.
    """
    record = filed.record
    return page(
        "run.html",
        root="../",
        here="boards",
        board=board,
        corrected=corrected,
        method=f"../methods/{slug(record.method.name)}.html",
        record=record,
        dataset=display(record.data.name),
        network=display(record.network),
        file=f"records/{filed.path}",
        file_sha256=hashlib.sha256(filed.content).hexdigest(),
        hyperparameters=sorted(record.method.hyperparameters.items()),
        training=_training(record),
        checkpoints=[_checkpoint(record, name) for name in CHECKPOINTS if name in record.checkpoints],
        curve=_curve(record.training.curve, record.training.best_epoch),
    )


def _best(record: Record) -> str:
    training, gain = record.training, record.training.selection_gain
    if training.best_epoch is None:
        return "none"
    above = "" if gain is None else f", {100 * gain:.1f} points above the mean of the last tenth of the epochs"
    return f"{training.best_epoch} by {record.selection_text}{above}"


def _training(record: Record) -> list[tuple[str, str]]:
    training = record.training
    passes = training.passes
    counted = f"{passes.forward:,} forward, {passes.input_gradient:,} input and {passes.weight_gradient:,} weight "
    facts = [
        ("Epochs", str(training.epochs)),
        ("Best epoch", _best(record)),
        ("Wall time", f"{training.seconds:,.0f} s"),
        ("Peak memory", f"{training.peak_memory_bytes / 2**30:.3g} GiB"),
        ("Passes", f"{counted}gradients over {training.images:,} images"),
        ("Parameters", f"{training.parameters_deployed:,} deployed, {training.parameters_trained:,} trained"),
        *((f"Teacher, {role}", f"{one.method}, {_origin(one)}") for role, one in training.teachers.items()),
        *_environment(training.environment),
    ]
    if training.diverged is not None:
        facts.insert(
            0, ("Diverged", f"loss not finite in epoch {training.diverged.epoch}, step {training.diverged.step}")
        )
    return facts


def _origin(teacher: Teacher) -> str:
    """Return where a teacher is from: its run and what that took, or the checksum of its file."""
    return f"run {teacher.run}, {teacher.seconds:,.0f} s" if teacher.run else f"sha256 {teacher.sha256[:16]}"


def _environment(environment: Environment) -> list[tuple[str, str]]:
    machine = environment.cpu if environment.device == "cpu" else f"{environment.device} ({environment.cpu})"
    plural = "" if environment.threads == 1 else "s"
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(environment.libraries.items()))
    return [
        ("Machine", f"{machine}, {environment.threads} thread{plural}, {environment.precision}"),
        ("Software", f"advbench {environment.advbench}, Python {environment.python}, {libraries}"),
        ("Commit", environment.commit or "not known"),
    ]


def _checkpoint(record: Record, name: str) -> dict[str, Any]:
    checkpoint = next(one for key, one in record.checkpoints.items() if key == name)
    evaluation = checkpoint.evaluation
    return {
        "name": name,
        "epoch": checkpoint.epoch,
        "sha256": checkpoint.sha256,
        "columns": [_column(evaluation, column) for column in COLUMNS],
        "worst": _counted(evaluation),
        "stages": [(stage, _share(evaluation.stages[stage])) for stage in STAGES if stage in evaluation.stages],
        "flags": [_flag(flag) for flag in evaluation.flags],
    }


def _share(outcomes: Outcomes) -> str:
    return f"{int(outcomes.correct.sum()):,} of {outcomes.n:,}"


def _column(evaluation: Evaluation, column: str) -> dict[str, Any]:
    outcomes = evaluation.columns.get(column)
    if outcomes is None or not outcomes.n:
        return {"label": ACCURACIES[column][0], "state": "not measured"}
    right = int(outcomes.correct.sum())
    low, high = wilson(right, outcomes.n)
    return {
        "label": ACCURACIES[column][0],
        "state": "",
        "right": f"{right:,}",
        "of": f"{outcomes.n:,}",
        "accuracy": f"{100 * right / outcomes.n:.2f}",
        "interval": f"{100 * low:.2f} to {100 * high:.2f}",
        "settings": ", ".join(f"{key} {_setting(value)}" for key, value in sorted(outcomes.settings.items())),
        "seconds": f"{outcomes.seconds:,.1f} s",
    }


def _setting(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _counted(evaluation: Evaluation) -> str:
    worst = evaluation.worst
    return "not measured" if worst is None else f"{int(worst.sum()):,} of {len(worst):,}"


def _flag(flag: Flag) -> dict[str, str]:
    evidence = ", ".join(f"{key}: {value}" for key, value in flag.evidence.items())
    return {"name": flag.name, "kind": flag.kind, "state": flag.state, "reason": flag.reason, "evidence": evidence}


def _curve(epochs: Sequence[Epoch], best: int | None) -> dict[str, Any] | None:
    """Return the learning curve as points of an SVG, accuracies on [0, 1] upwards; None below two epochs."""
    if len(epochs) < 2:
        return None
    first, last = epochs[0].epoch, epochs[-1].epoch

    def x(epoch: int) -> float:
        return round(WIDTH * (epoch - first) / max(1, last - first), 1)

    def line(key: str) -> str:
        return " ".join(f"{x(one.epoch)},{HEIGHT * (1 - getattr(one, key)):.1f}" for one in epochs)

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "clean": line("clean"),
        "robust": line("robust"),
        "first": first,
        "last": last,
        "best": None if best is None else x(best),
        "best_epoch": best,
        "end_clean": f"{100 * epochs[-1].clean:.1f}",
        "end_robust": f"{100 * epochs[-1].robust:.1f}",
        "top_robust": f"{100 * max(one.robust for one in epochs):.1f}",
    }
