"""Where a method stands after a run with the complete attacks: baselines in their bands, columns whole, flags clear.

Only baselines have bands: a method may be weak on a hundred digits and still be what its paper says.

Torch-free: it reads records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advbench.benchmark.records.flags import ABOUT, raised
from advbench.benchmark.records.schema import COLUMNS, Record
from advbench.benchmark.review.adapter.report import Finding, State


@dataclass(frozen=True)
class Band:
    """Accuracies between which a baseline must come out on `best`, in [0,1]."""

    clean: tuple[float, float]
    autoattack: tuple[float, float]


BANDS: Mapping[str, Mapping[str, Band]] = {
    # Measured at seeds 0 and 1: PGD-AT 65 and 67, TRADES 61 and 64 of 100 images under AutoAttack. Two standard errors
    # are 10 points with so few images, and seeds differ besides.
    "digits-linf/1": {
        "pgd_at": Band(clean=(0.86, 1.0), autoattack=(0.48, 0.82)),
        "trades": Band(clean=(0.86, 1.0), autoattack=(0.45, 0.78)),
    },
}
"""Published protocol → baseline → band. Whoever misses it has a broken set-up, not a bad method."""


BOUNDED = frozenset({"autoattack-far-below-pgd"})
"""Flags that leave AutoAttack's figure standing: it found what PGD did not. The board withholds the rank and shows why,
so a method that earns one is no broken adapter (GAIRAT is known for it); any other flag says that AutoAttack itself may
be no bound, or that the run is not valid."""


def baselines(protocol_name: str, *, official: bool) -> tuple[str, ...]:
    """Return the baselines that must be met first under a protocol; none under a protocol of the user's."""
    return tuple(BANDS.get(protocol_name, {})) if official else ()


def judge_baselines(records: Sequence[Record], protocol_name: str, *, official: bool) -> list[Finding]:
    """Hold every baseline to its band."""
    wanted = BANDS.get(protocol_name, {}) if official else {}
    if not wanted:
        said = f"there are no bands for {protocol_name}: the set-up itself is not checked"
        return [Finding("digits", "baselines", "not run", said, "use --protocol digits-linf")]
    found = []
    for name, band in wanted.items():
        mine = [record for record in records if record.method.name == name and not record.method.changed]
        found.append(_baseline(name, band, mine))
    return found


def _baseline(name: str, band: Band, records: Sequence[Record]) -> Finding:
    title, mend = f"baseline {name}", "the set-up is broken, not your method: run make test, and see advbench doctor"
    if not records or "best" not in records[0].checkpoints:
        return Finding("digits", title, "failed", "it was not measured", mend)
    evaluation = records[0].checkpoints["best"].evaluation
    parts, good = [], True
    for column, (low, high) in (("clean", band.clean), ("autoattack", band.autoattack)):
        accuracy = evaluation.accuracy(column)
        good = good and accuracy is not None and low <= accuracy <= high
        shown = "missing" if accuracy is None else f"{accuracy:.1%}"
        parts.append(f"{column} {shown} (band {low:.0%} to {high:.0%})")
    said = ", ".join(parts)
    return Finding("digits", title, "passed", said) if good else Finding("digits", title, "failed", said, mend)


def judge(record: Record | None) -> list[Finding]:
    """Return how one method came out on both checkpoints."""
    if record is None:
        return [Finding("digits", "run", "failed", "it left no record", "see the log named above")]
    if record.training.diverged is not None:
        at = record.training.diverged
        said = f"the loss was not finite at epoch {at.epoch}, step {at.step}"
        return [Finding("digits", "run", "failed", said, "look at the scale of the loss")]
    found = []
    for name, checkpoint in record.checkpoints.items():
        evaluation = checkpoint.evaluation
        missing = [column for column in COLUMNS if column not in evaluation.columns]
        shown = ", ".join(f"{column} {evaluation.accuracy(column):.1%}" for column in COLUMNS if column not in missing)
        title = f"attacks on {name}"
        if missing:
            said = f"{', '.join(missing)} missing"
            found.append(Finding("digits", title, "failed", said, "run the same command again: it goes on"))
        else:
            found.append(Finding("digits", title, "passed", shown))
        up = raised(evaluation.flags)
        for flag in up:
            about = ABOUT[flag.name]
            said = f"{about.sign} ({flag.reason})" if flag.reason else about.sign
            state: State = "suspicious" if flag.name in BOUNDED else "failed"
            found.append(Finding("digits", f"flag {flag.name} on {name}", state, said, about.mend))
        if not up:
            clear = sum(flag.state == "clear" for flag in evaluation.flags)
            said = f"{clear} clear, {len(evaluation.flags) - clear} could not be judged"
            found.append(Finding("digits", f"flags on {name}", "passed", said))
    return found
