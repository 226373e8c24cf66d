"""What keeps a row from being ranked: signs of masking, breaches of validity, collapsed seeds.

Read from records alone. Flags come from the evaluator; a collapse is read from the outcomes by the protocol's
definition, so that it is seen even where no flag was computed.
"""

from advbench.benchmark.records import flag_rules
from advbench.benchmark.records.flag_rules import Training
from advbench.benchmark.records.flags import COLLAPSED
from advbench.benchmark.records.schema import Evaluation, Record


def collapse(record: Record) -> str:
    """Return why the seed of a record has collapsed, by the definition of the flag; empty if it has not."""
    if record.training.diverged is not None:
        return f"loss not finite in epoch {record.training.diverged.epoch}"
    for name, checkpoint in sorted(record.checkpoints.items()):
        training = Training(checkpoint=name, robust=record.method.robust)
        state, _, reason = flag_rules.collapsed(
            checkpoint.evaluation, training, record.protocol.flags, max(1, record.data.num_classes)
        )
        if state == "raised":
            return f"{name}: {reason}"
        if any(flag.name == COLLAPSED and flag.state == "raised" for flag in checkpoint.evaluation.flags):
            return f"{COLLAPSED} on {name}"
    return ""


def masking(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the names of raised signs of gradient masking."""
    return tuple(flag.name for flag in evaluation.flags if flag.kind == "masking" and flag.state == "raised")


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
