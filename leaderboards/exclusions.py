"""What keeps a row from being ranked: doubts of AutoAttack, breaches of validity, collapsed seeds; and what does not.

Read from records alone. Flags come from the evaluator; a collapse is read from the outcomes by the protocol's
definition, so that it is seen even where no flag was computed.
"""

from collections.abc import Iterator, Sequence

from advbench.benchmark.protocol import FlagThresholds
from advbench.benchmark.records import flag_rules
from advbench.benchmark.records.flag_rules import TrainingFacts
from advbench.benchmark.records.flags import COLLAPSED, Severity, doubted, severity
from advbench.benchmark.records.schema import Evaluation, Flag, Record


def collapse(record: Record) -> str:
    """Return why the seed of a record has collapsed, by the definition of the flag; empty if it has not."""
    if record.training.diverged is not None:
        return f"loss not finite in epoch {record.training.diverged.epoch}"
    for name, checkpoint in sorted(record.checkpoints.items()):
        training = TrainingFacts(checkpoint=name, robust=record.method.robust)
        state, _, reason = flag_rules.collapsed(
            checkpoint.evaluation, training, record.protocol.flags, max(1, record.data.num_classes)
        )
        if state == "raised":
            return f"{name}: {reason}"
        if any(flag.name == COLLAPSED and flag.state == "raised" for flag in checkpoint.evaluation.flags):
            return f"{COLLAPSED} on {name}"
    return ""


def withholding(evaluations: Sequence[Evaluation], limits: FlagThresholds) -> tuple[str, ...]:
    """Return the names of raised flags that put AutoAttack's figure in doubt."""
    return tuple(
        dict.fromkeys(flag.name for flag, effect in _raised(evaluations, limits) if effect is Severity.WITHHOLDING)
    )


def cautions(evaluations: Sequence[Evaluation], limits: FlagThresholds) -> dict[str, tuple[str, ...]]:
    """Return the columns that raised flags put in doubt without withholding the rank, with the flags' names."""
    found: dict[str, dict[str, None]] = {}
    for flag, effect in _raised(evaluations, limits):
        for column in doubted(flag, limits) if effect is Severity.CAUTION else ():
            found.setdefault(column, {})[flag.name] = None
    return {column: tuple(names) for column, names in found.items()}


def _raised(evaluations: Sequence[Evaluation], limits: FlagThresholds) -> Iterator[tuple[Flag, Severity | None]]:
    for evaluation in evaluations:
        images = max((outcomes.n for outcomes in evaluation.columns.values()), default=0)
        yield from ((flag, severity(flag, images, limits)) for flag in evaluation.flags)


def invalid(record: Record, evaluation: Evaluation) -> tuple[str, ...]:
    """Return what makes an evaluation not rankable without its seed having collapsed."""
    found = [
        flag.name
        for flag in evaluation.flags
        if flag.kind == "validity" and flag.state == "raised" and flag.name != COLLAPSED
    ]
    if any(outcomes.n != record.data.test for outcomes in evaluation.columns.values()):
        found.append("test set incomplete")
    return tuple(dict.fromkeys(found))


def summarize_flags(evaluations: list[Evaluation]) -> str:
    """Say in one cell what the flags of some evaluations say: raised first, then what was not run."""
    flags = [flag for evaluation in evaluations for flag in evaluation.flags]
    if not flags:
        return "not run"
    raised = dict.fromkeys(flag.name for flag in flags if flag.state == "raised")
    not_run = dict.fromkeys(flag.name for flag in flags if flag.state == "not run" and flag.name not in raised)
    parts = []
    if raised:
        parts.append(f"raised: {', '.join(raised)}")
    if not_run:
        parts.append(f"{len(not_run)} of {len({flag.name for flag in flags})} not run")
    return "; ".join(parts) or "clear"
