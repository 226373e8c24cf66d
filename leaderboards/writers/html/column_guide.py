"""How columns are grouped, what they mean in a sentence, and the marker of each family of methods."""

from advbench.leaderboards.table import Column

GROUPS = {
    "attacks": "More attacks",
    "gap": "Overfitting gap",
    "cost": "Cost",
    "evidence": "Evidence",
}
"""Groups of columns that a reader can hide; "core" columns always show."""
GROUP_OF = {
    **dict.fromkeys(("rank", "stochastic", "method", "checkpoint", "clean", "autoattack", "seeds"), "core"),
    **dict.fromkeys(("settings", "default", "gain"), "core"),
    **dict.fromkeys(("trial_hours", "trial_passes"), "cost"),
    **dict.fromkeys(("pgd20", "pgd100", "cw", "worst", "nrr"), "attacks"),
    **dict.fromkeys(("gap_pgd20", "gap_autoattack"), "gap"),
    **dict.fromkeys(("hours", "teacher_hours", "memory", "passes", "parameters", "trained"), "cost"),
}
MEANING = {
    "rank": "The ranks by AutoAttack on best that the outcomes leave open. "
    "◇: no ranked row costs at most as many passes and is higher.",
    "stochastic": "1 + the rows that are almost stochastically larger over seeds in AutoAttack on best.",
    "method": "The defense, with changed hyper-parameters; the name leads to its card.",
    "checkpoint": "best: highest robust accuracy on held-out training images; last: after the last epoch.",
    "clean": "Accuracy on the unperturbed test images.",
    "pgd20": "20 steps of projected gradient ascent on cross-entropy, one uniform start, last iterate.",
    "pgd100": "The same with 100 steps; shares its start with PGD-20.",
    "cw": "20 steps on the margin loss of Carlini and Wagner, one uniform start, last iterate.",
    "autoattack": "AutoAttack standard: APGD-CE, APGD-T, FAB-T and Square, each on what the ones before left.",
    "worst": "Right on the clean image and under every attack of the board, image by image.",
    "nrr": "Natural-robust ratio 2·clean·AA / (clean + AA), per seed, then averaged.",
    "gap_pgd20": "Robust overfitting: PGD-20 accuracy of best minus that of last, per seed.",
    "gap_autoattack": "Robust overfitting: AutoAttack accuracy of best minus that of last, per seed.",
    "seeds": "Number of independent trainings behind the row.",
    "hours": "Wall time of training, frozen teachers included.",
    "teacher_hours": "The share of training time that went into frozen teachers.",
    "memory": "Highest memory in use during training.",
    "passes": "Training passes per image in forwards F: an input gradient counts 1F, weight gradients 2F.",
    "parameters": "Parameters of the network that is attacked.",
    "trained": "Parameters trained, helper networks included.",
    "settings": "What differs from the method's defaults and the protocol's training.",
    "default": "AutoAttack of the row with default settings, which the closed division ranks.",
    "gain": "AutoAttack tuned minus with default settings, per seed, then averaged.",
    "best_of": "Expected validation accuracy of the best of k = 1, 2, … settings drawn from the trials.",
    "trial_hours": "Wall time of the trials' training, beside the row's own.",
    "trial_passes": "Passes of the trials' training in millions of forwards of one image.",
    "flags": "Signs of a broken evaluation; raised ones withhold the rank, or mark the columns they doubt (¶).",
    "data": "Whether the checksums of the official files matched.",
}
COLUMN_GROUPS = (
    "standard",
    "adversarial training",
    "regularised",
    "weight perturbation",
    "two networks",
    "distillation",
    "label refinement",
    "averaging",
    "reweighting",
    "single step",
)
"""In the order of `MARKERS`; a family that is not here gets the last marker, a star."""
MARKERS = (
    "M-5-5L5 5M-5 5L5-5",
    "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0",
    "M-5-5h10v10h-10z",
    "M0-6.5L6 5H-6z",
    "M0-7L6 0L0 7L-6 0z",
    "M0 6.5L6-5H-6z",
    "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    "M0 -6.5L6.2 -2L3.8 5.3L-3.8 5.3L-6.2 -2z",
    "M6.3 0L3.2 5.5L-3.1 5.5L-6.3 0L-3.2 -5.5L3.2 -5.5z",
    "M-6.5 0L5-6V6z",
    "M0 -7.5L1.9 -2.6L7.1 -2.3L3 1L4.4 6.1L0 3.2L-4.4 6.1L-3 1L-7.1 -2.3L-1.9 -2.6z",
)
"""SVG paths within [-8, 8]², the shapes of the printed figures; the first is stroked, the others are filled."""


def group(column: Column) -> str:
    """Return the group of a column; one that is not known is evidence."""
    return GROUP_OF.get(column.key, "evidence")


def marker(family: str) -> int:
    """Return the number of the marker of a family."""
    return COLUMN_GROUPS.index(family) if family in COLUMN_GROUPS else len(COLUMN_GROUPS)
