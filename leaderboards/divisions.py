"""The divisions of a board: which records stand in which part of it, and what their rows show beside accuracies."""

from collections.abc import Iterable, Mapping, Sequence

from advbench.benchmark.recipe import in_words
from advbench.benchmark.records.schema import Record
from advbench.leaderboards.measures import Variant
from advbench.leaderboards.table import Cell, Column, Note

SETTINGS = Column("settings", "Settings", "Settings", "text")
OWN = "own recipes"


def split(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Sort records by the heading of their part, "" for the board itself; trials of tuning are on none."""
    found: dict[str, list[Record]] = {"": []}
    for record in records:
        if record.division != "trial":
            found.setdefault(_heading(record), []).append(record)
    return dict(sorted(found.items()))


def _heading(record: Record) -> str:
    """Name the part of a board; rows tuned with another budget are another part."""
    if record.division == "own-recipe":
        return OWN
    if record.division != "tuned" or record.tuning is None:
        return ""
    budget = record.tuning.budget
    seeds = f" with {budget.seeds} seeds each" if budget.seeds > 1 else ""
    return f"tuned among {budget.settings} settings{seeds}"


def columns(records: Sequence[Record], hour: str) -> tuple[Column, ...]:
    """Return the columns that a part has beyond those of every board; `hour` as of training time."""
    if not any(record.tuning for record in records):
        return (SETTINGS,)
    return (
        SETTINGS,
        Column("default", "AutoAttack with default settings", "Default AA", "accuracy", "%"),
        Column("gain", "Gain by tuning", "Gain", "points", "points"),
        Column("best_of", "Expected best of k, validation %", "Best of k", "text"),
        Column("trial_hours", "Trials", "Trials", "amount", hour),
        Column("trial_passes", "Passes of trials", "Trial passes", "amount", "MF"),
    )


def cells(variant: Variant, checkpoint: str, closed: Mapping[str, Variant], hour: str) -> dict[str, Cell]:
    """Return the cells of a part's own columns.

    Args:
        variant: the row's records.
        checkpoint: "best" or "last".
        closed: the rows of the closed division with default settings, by method.
        hour: unit of training time where it is the same for all rows, else empty.
    """
    identity, first = variant.identity, variant.records[0]
    found = {"settings": Cell(text=in_words(identity.changed, first.recipe))}
    if first.tuning is None:
        return found
    default = closed.get(identity.name)
    before = default.by_seed(checkpoint) if default else {}
    after = variant.by_seed(checkpoint)
    gains = [after[seed] - before[seed] if seed in after and seed in before else None for seed in variant.seeds]
    missing = Cell(state="missing", reason="the row with default settings was not measured")
    found["default"] = default.accuracy(checkpoint, "autoattack") if default else missing
    found["gain"] = variant.cell(gains) if any(gain is not None for gain in gains) else missing
    if checkpoint == "last":
        elsewhere = Cell(state="not applicable", reason="shown in the row of best")
        return found | dict.fromkeys(("best_of", "trial_hours", "trial_passes"), elsewhere)
    trials = first.tuning.trials
    seconds, forwards = sum(trial.seconds for trial in trials), sum(trial.forwards for trial in trials)
    return found | {
        "best_of": Cell(text=", ".join(f"{100 * score:.1f}" for score in first.tuning.expected_best)),
        "trial_hours": Cell(values=(seconds / 3600,), expected=1, unit="" if hour else variant.hour),
        "trial_passes": Cell(values=(forwards / 1e6,), expected=1),
    }


def notes(variants: Sequence[Variant]) -> list[Note]:
    """Say what a part is and what its columns are; nothing of the closed division."""
    first = variants[0].records[0]
    if first.division == "own-recipe":
        text = (
            "Own recipes: trained as the methods' authors published it (settings) in place of the protocol's training; "
            "ranked among themselves only."
        )
        return [Note(text, text)]
    if first.division != "tuned" or first.tuning is None:
        return []
    tuning, plural = first.tuning, "s" if len(first.tuning.seeds) > 1 else ""
    text = (
        f"Tuned: the best on validation images of the default and {len(tuning.trials) - 1} quasi-random draws of "
        f"learning rate, weight decay and the method's own knobs, tried on tuning seed{plural} "
        f"{', '.join(map(str, tuning.seeds))} without any test image and trained anew on the board's seeds; ranked "
        "among tuned rows only."
    )
    gain = "Gain: AutoAttack tuned − with default settings, per seed, then averaged."
    return [
        Note(text, text),
        Note(gain, gain, about=("gain",)),
        Note(
            "Expected best of k = 1, 2, … settings drawn from the trials with replacement: validation accuracy under "
            "the worst of two PGDs (Dodge et al., 2019). Trials: their training, teachers included, beside the row's "
            "own; passes, without teachers, in millions of forwards F of one image."
        ),
    ]
