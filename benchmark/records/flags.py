"""Flags: signs that an evaluation is broken, as typed data with their evidence. Torch-free.

A masking flag keeps the numbers. Where it puts AutoAttack, the ranked column, in doubt it withholds the rank; where an
attack on cross-entropy alone overstates, it marks the columns of that attack and leaves the rank. A validity flag says
that there is nothing to rank. What cannot be judged is "not run", never passed. Thresholds are the protocol's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from advbench.benchmark.protocol import FlagThresholds, Protocol
from advbench.benchmark.records import flag_rules
from advbench.benchmark.records.flag_rules import Case, Finding, TrainingFacts, not_run
from advbench.benchmark.records.schema import Evaluation, Flag

__all__ = ["ABOUT", "About", "Severity", "TrainingFacts", "find", "raised", "severity"]

Kind = Literal["masking", "validity"]


class Severity(StrEnum):
    """What a raised masking flag does to its row: withhold the rank, or mark columns and leave the rank."""

    WITHHOLDING = "withholding"
    CAUTION = "caution"


@dataclass(frozen=True)
class About:
    """What a flag means: the sign, the hint what to do when it is raised, and the paper that it comes from.

    Attributes:
        columns: of a masking flag that compares columns, those it puts in doubt; empty where it doubts all of them.
    """

    kind: Kind
    sign: str
    hint: str
    url: str
    columns: tuple[str, ...] = ()


_OBFUSCATED = "https://arxiv.org/abs/1802.00420"  # Athalye, Carlini, Wagner, ICML 2018
_EVALUATING = "https://arxiv.org/abs/1902.06705"  # Carlini et al., 2019
_AUTOATTACK = "https://arxiv.org/abs/2003.01690"  # Croce and Hein, ICML 2020
_ADAPTIVE = "https://arxiv.org/abs/2002.08347"  # Tramer et al., NeurIPS 2020
_TEST_TIME = "https://arxiv.org/abs/2202.13711"  # Croce et al., ICML 2022
_ROBUSTBENCH = "https://arxiv.org/abs/2010.09670"  # Croce et al., 2021
_OVERFITTING = "https://arxiv.org/abs/2002.11569"  # Rice, Wong, Kolter, ICML 2020
_REWEIGHTED = "https://arxiv.org/abs/2103.01914"  # Hitaj et al., 2021, on GAIRAT
_MARGIN = "https://arxiv.org/abs/2411.15210"  # probability margin attack
_PGD = ("pgd20", "pgd100")
_WHITE_BOX = (*_PGD, "cw", "autoattack")

COLLAPSED = "collapsed"
"""The flag of a seed that has to be shown and is not ranked as a defense."""
ABOUT: Mapping[str, About] = {
    "non-finite-gradients": About(
        "masking",
        "a gradient or a logit is not finite where an attack looks",
        "find the operation that overflows and attack without it (BPDA)",
        _OBFUSCATED,
    ),
    "zero-gradients": About(
        "masking",
        "the input gradient of the margin is exactly zero",
        "replace the step that kills the gradient by a smooth one in the backward pass (BPDA), or transfer from a copy",
        _OBFUSCATED,
    ),
    "probabilities": About(
        "masking",
        "outputs are probabilities: losses on them saturate",
        "attack the logits below the softmax",
        _ROBUSTBENCH,
    ),
    "random-forwards": About(
        "masking",
        "repeated forwards differ",
        "attack the expectation over the randomness (EOT)",
        _OBFUSCATED,
    ),
    "batch-dependence": About(
        "masking",
        "the output for an image depends on the batch around it",
        "put the network in eval mode, or attack each image in a batch of its own",
        _TEST_TIME,
    ),
    "autoattack-far-below-pgd": About(
        "masking",
        "AutoAttack leaves far less than PGD-20: cross-entropy is no guide here",
        "report AutoAttack alone and attack with margin losses; look for reweighted or rescaled logits",
        _REWEIGHTED,
        columns=_PGD,
    ),
    "stronger-attack-finds-less": About(
        "masking",
        "more steps, or a stronger attack, leave more images right",
        "check the step size and restart PGD; write an adaptive attack",
        _EVALUATING,
        columns=("pgd100", "autoattack"),
    ),
    "worst-below-autoattack": About(
        "masking",
        "PGD or CW fool images that AutoAttack could not",
        "write an adaptive attack; AutoAttack is no bound here",
        _ADAPTIVE,
        columns=("autoattack",),
    ),
    "square-gain": About(
        "masking",
        "an attack without gradients gains on the attacks with gradients",
        "give Square more queries and restarts, and transfer from other networks",
        _AUTOATTACK,
        columns=("autoattack",),
    ),
    "convergence": About(
        "masking",
        "an attack with more iterations, or one from outside AutoAttack, fools images that AutoAttack could not",
        "AutoAttack is no bound here: give it more iterations and restarts, and write an adaptive attack",
        _MARGIN,
        columns=("autoattack",),
    ),
    "large-eps-survivors": About(
        "masking",
        "images survive a radius at which each of them can become grey",
        "an attack must reach 0 % there first: repair it (BPDA, other losses)",
        _EVALUATING,
    ),
    "noise-beats-pgd": About(
        "masking",
        "uniform noise fools more images than PGD-20",
        "gradients point nowhere: use attacks without gradients",
        _OBFUSCATED,
        columns=_WHITE_BOX,
    ),
    "transfer-beats-white-box": About(
        "masking",
        "examples made on another network fool more images than PGD-20 on this one",
        "transfer attacks from several networks bound the robustness; repair the white-box attack",
        _EVALUATING,
        columns=_WHITE_BOX,
    ),
    "selection": About(
        "validity",
        "the checkpoint was not selected on the validation split",
        "select on the validation split and evaluate again",
        _OVERFITTING,
    ),
    "test-above-validation": About(
        "validity",
        "the test figure lies far above that of the validation split",
        "look for test images, or labels of theirs, in the adapter; compare the splits of the data",
        _EVALUATING,
    ),
    "test-set-incomplete": About(
        "validity",
        "not every attack ran on every test image",
        "run what is missing",
        _EVALUATING,
    ),
    COLLAPSED: About(
        "validity",
        "training collapsed under this seed",
        "the seed is shown and counted; look at the learning curve",
        _OVERFITTING,
    ),
}
"""Every flag by name, in the order in which they are reported."""


_OUTCOMES: dict[str, Callable[[Case], Finding]] = {
    "autoattack-far-below-pgd": flag_rules.autoattack_far_below_pgd,
    "stronger-attack-finds-less": flag_rules.stronger_attack_finds_less,
    "worst-below-autoattack": flag_rules.worst_below_autoattack,
    "square-gain": flag_rules.square_gain,
    "convergence": flag_rules.convergence,
    "non-finite-gradients": flag_rules.non_finite_gradients,
}
_EXAMINED: dict[str, Callable[[Case, Mapping[str, Any]], Finding]] = {
    "zero-gradients": flag_rules.zero_gradients,
    "probabilities": flag_rules.probabilities,
    "random-forwards": flag_rules.random_forwards,
    "batch-dependence": flag_rules.batch_dependence,
    "large-eps-survivors": flag_rules.large_eps_survivors,
    "noise-beats-pgd": flag_rules.noise_beats_pgd,
    "transfer-beats-white-box": flag_rules.transfer_beats_white_box,
}


def find(
    evaluation: Evaluation,
    examination: Mapping[str, Any] | None,
    *,
    protocol: Protocol,
    num_classes: int,
    training: TrainingFacts | None = None,
) -> tuple[Flag, ...]:
    """Return the flags of one evaluated checkpoint, in the order of `ABOUT`.

    Args:
        evaluation: the columns that were measured.
        examination: evidence gathered over all shards of the family "examination"; None if it is not complete.
        protocol: thresholds, bootstrap draws and seed.
        num_classes: classes of the data set.
        training: how the checkpoint came to be.
    """
    training = training or TrainingFacts()
    case = Case(evaluation, examination, protocol, num_classes)
    findings = {
        "selection": flag_rules.selection(training, protocol.selection.steps),
        "test-set-incomplete": flag_rules.test_set_incomplete(case),
        COLLAPSED: flag_rules.collapsed(evaluation, training, protocol.flags, num_classes),
    }
    above = flag_rules.test_above_validation(evaluation, training)
    if above is not None:  # written only where it is raised: records made before it stay what they are
        findings["test-above-validation"] = above
    findings |= {name: judge(case) for name, judge in _OUTCOMES.items()}
    for name, judge_examined in _EXAMINED.items():
        findings[name] = (
            not_run("the examination did not run") if examination is None else judge_examined(case, examination)
        )
    gone = findings[COLLAPSED][0] == "raised"
    return tuple(_flag(name, findings[name], collapsed=gone) for name in ABOUT if name in findings)


def _flag(name: str, finding: Finding, *, collapsed: bool) -> Flag:
    """Make the flag; a collapsed network has nothing to mask, and its zero gradients accuse nobody."""
    state, evidence, reason = finding
    kind = ABOUT[name].kind
    if collapsed and kind == "masking" and state == "raised":
        state, reason = "not run", f"the network has collapsed ({reason})"
    return Flag(name=name, kind=kind, state=state, evidence=evidence, reason=reason)


def raised(flags: Sequence[Flag], kind: Kind | None = None) -> tuple[Flag, ...]:
    """Return the raised flags, of one kind or of both."""
    return tuple(flag for flag in flags if flag.state == "raised" and kind in {None, flag.kind})


def severity(flag: Flag, images: int, limits: FlagThresholds) -> Severity | None:
    """Return what a flag does to its row; None if it is not raised, or a validity flag.

    Withholding is what doubts AutoAttack, the ranked column. A comparison of columns is uncertain on few images: below
    the protocol's limit it withholds nothing by itself. An unknown flag withholds: a record may be newer than `ABOUT`.

    Args:
        flag: as the record has it, with its evidence.
        images: test images that were attacked.
        limits: the protocol's thresholds.
    """
    if flag.state != "raised" or flag.kind != "masking":
        return None
    columns = doubted(flag, limits)
    withholds = not columns or ("autoattack" in columns and images >= limits.low_power_images)
    return Severity.WITHHOLDING if withholds else Severity.CAUTION


def doubted(flag: Flag, limits: FlagThresholds) -> tuple[str, ...]:
    """Return the columns that a raised masking flag puts in doubt; empty for all of them.

    Evidence narrows them down where it can: PGD-100 that leaves more images than PGD-20 says nothing of AutoAttack.
    """
    columns = ABOUT[flag.name].columns if flag.name in ABOUT else ()
    if flag.name != "stronger-attack-finds-less":
        return columns
    pairs = {name: found for name, found in flag.evidence.items() if isinstance(found, dict)}
    margin = flag.evidence.get("m", 0)
    over = {
        name.split(" - ")[0]
        for name, found in pairs.items()
        if found["images"] > margin and found["p"] < limits.p_value
    }
    return tuple(column for column in columns if column in over) or columns
