"""How a method came out of a run with the complete attacks: baselines in their bands, columns whole, flags clear.

Only baselines have bands: a method may be weak on a hundred digits and still be what its paper says.

Torch-free: it reads records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advbench.benchmark.protocol import FlagThresholds
from advbench.benchmark.records.flags import ABOUT, Severity, raised, severity
from advbench.benchmark.records.schema import COLUMNS, CheckpointName, Evaluation, Record
from advbench.benchmark.review.finding import Finding, Level


@dataclass(frozen=True)
class Band:
    """Accuracies between which a baseline must come out on `best`, in [0,1]."""

    clean: tuple[float, float]
    autoattack: tuple[float, float]


BANDS: Mapping[str, Mapping[str, Band]] = {
    # Measured at seeds 0 and 1: PGD-AT 73 and 77, TRADES 67 and 72 of 100 images under AutoAttack. Two standard errors
    # are 10 points with so few images, and seeds differ besides.
    "digits-linf/2": {
        "pgd_at": Band(clean=(0.88, 1.0), autoattack=(0.56, 0.90)),
        "trades": Band(clean=(0.86, 1.0), autoattack=(0.52, 0.87)),
    },
}
"""Published protocol → baseline → band. Whoever misses it has a broken set-up, not a bad method."""


def baselines(protocol_name: str, *, official: bool) -> Mapping[str, Band]:
    """Return the baselines that must be met first under a protocol; none under a protocol of the user's."""
    return BANDS.get(protocol_name, {}) if official else {}


def judge_baselines(records: Sequence[Record], protocol_name: str, *, official: bool) -> list[Finding]:
    """Hold every baseline to its band."""
    bands = baselines(protocol_name, official=official)
    if not bands:
        message = f"not run: there are no bands for {protocol_name}, so the set-up itself is not checked"
        return [Finding("baselines", "note", "", message, "use --protocol digits-linf")]
    unchanged = {record.method.name: record for record in reversed(records) if not record.method.changed}
    return [_baseline(name, band, unchanged.get(name)) for name, band in bands.items()]


def _baseline(name: str, band: Band, record: Record | None) -> Finding:
    rule, hint = f"baseline {name}", "the set-up is broken, not your method: run make test, and see advbench doctor"
    if record is None or "best" not in record.checkpoints:
        return Finding(rule, "failed", "", "it was not measured", hint)
    evaluation = record.checkpoints["best"].evaluation
    parts, good = [], True
    for column, (low, high) in vars(band).items():
        accuracy = evaluation.accuracy(column)
        good = good and accuracy is not None and low <= accuracy <= high
        shown = "missing" if accuracy is None else f"{accuracy:.1%}"
        parts.append(f"{column} {shown} (band {low:.0%} to {high:.0%})")
    return Finding(rule, "ok" if good else "failed", "", ", ".join(parts), "" if good else hint)


def judge(record: Record | None) -> list[Finding]:
    """Return how one method came out on both checkpoints."""
    if record is None:
        return [Finding("run", "failed", "", "it left no record", "see the log named above")]
    if record.training.diverged is not None:
        at = record.training.diverged
        message = f"the loss was not finite at epoch {at.epoch}, step {at.step}"
        return [Finding("run", "failed", "", message, "look at the scale of the loss")]
    return [
        finding
        for name, checkpoint in record.checkpoints.items()
        for finding in (
            _attacks(name, checkpoint.evaluation),
            *_flags(name, checkpoint.evaluation, record.protocol.flags),
        )
    ]


def _attacks(name: CheckpointName, evaluation: Evaluation) -> Finding:
    missing = [column for column in COLUMNS if column not in evaluation.columns]
    rule = f"attacks on {name}"
    if missing:
        return Finding(rule, "failed", "", f"{', '.join(missing)} missing", "run the same command again: it goes on")
    return Finding(rule, "ok", "", ", ".join(f"{column} {evaluation.accuracy(column):.1%}" for column in COLUMNS))


def _flags(name: CheckpointName, evaluation: Evaluation, limits: FlagThresholds) -> list[Finding]:
    """Fail what doubts AutoAttack or the run; a caution marks columns on a board: GAIRAT is known for one."""
    found = []
    for flag in raised(evaluation.flags):
        about = ABOUT[flag.name]
        message = f"{about.sign} ({flag.reason})" if flag.reason else about.sign
        cautious = severity(flag, limits.low_power_images, limits) is Severity.CAUTION
        level: Level = "suspicious" if cautious else "failed"
        found.append(Finding(f"flag {flag.name} on {name}", level, "", message, about.hint))
    clear = sum(flag.state == "clear" for flag in evaluation.flags)
    message = f"{clear} clear, {len(evaluation.flags) - clear} could not be judged"
    return found or [Finding(f"flags on {name}", "ok", "", message)]
