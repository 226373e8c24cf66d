"""What keeps a row from being ranked: signs of masking, breaches of validity, collapsed seeds.

Read from records alone. Flags come from the evaluator; a collapse is read from the outcomes by the protocol's
definition, so that it is seen even where no flag was computed.
"""

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Evaluation, Flag, Record


def collapse(record: Record, protocol: Protocol) -> str:
    """Say why the seed of a record has collapsed, in a few words; empty if it has not.

    Collapsed: a non-finite loss, or on a checkpoint clean accuracy below 2/C or one class taking most predictions, or,
    for a method trained against an adversary, `last` below 1/(2C) under PGD-20.
    """
    if record.training.diverged is not None:
        return f"loss not finite in epoch {record.training.diverged.epoch}"
    classes = max(1, record.data.num_classes)
    for name, checkpoint in sorted(record.checkpoints.items()):
        evaluation = checkpoint.evaluation
        clean = evaluation.accuracy("clean")
        if clean is not None and clean < 2 / classes:
            return f"clean accuracy of {name} below 2/{classes}"
        predicted = evaluation.predicted_classes
        if sum(predicted) and max(predicted) > protocol.flags.constant_share * sum(predicted):
            return f"{name} predicts one class"
        pgd20 = evaluation.accuracy("pgd20")
        if name == "last" and record.method.robust and pgd20 is not None and pgd20 < 1 / (2 * classes):
            return f"PGD-20 accuracy of last below 1/{2 * classes}"
        for flag in evaluation.flags:
            if _is_collapse(flag) and flag.state == "raised":
                return f"{flag.name} on {name}"
    return ""


def masking(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the names of raised signs of gradient masking."""
    return tuple(flag.name for flag in evaluation.flags if flag.kind == "masking" and flag.state == "raised")


def invalid(record: Record, evaluation: Evaluation) -> tuple[str, ...]:
    """Return what makes an evaluation not rankable without its seed having collapsed."""
    found = [
        flag.name
        for flag in evaluation.flags
        if flag.kind == "validity" and flag.state == "raised" and not _is_collapse(flag)
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


def _is_collapse(flag: Flag) -> bool:
    return flag.kind == "validity" and "collaps" in flag.name
