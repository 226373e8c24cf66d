"""What a raised flag does to a row: withhold its rank, or mark its columns and leave the rank. Torch-free.

Withholding: the AutoAttack figure itself is in doubt. Caution: an attack on cross-entropy overstates, which AutoAttack,
the ranked column, does not depend on. Validity flags are neither: they say that there is nothing to rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from advbench.benchmark.protocol import FlagThresholds
from advbench.benchmark.records.schema import Flag


class Severity(StrEnum):
    """What a raised masking flag does."""

    WITHHOLDING = "withholding"
    CAUTION = "caution"


@dataclass(frozen=True, slots=True)
class Rule:
    """How grave a flag is.

    Attributes:
        severity: what it does on enough images.
        compares_columns: it compares numbers of images that two attacks leave right, which few images make uncertain:
            below the protocol's limit it withholds nothing unless a flag that compares no columns does.
    """

    severity: Severity
    compares_columns: bool


RULES: Mapping[str, Rule] = {
    "non-finite-gradients": Rule(Severity.WITHHOLDING, compares_columns=False),
    "zero-gradients": Rule(Severity.WITHHOLDING, compares_columns=False),
    "probabilities": Rule(Severity.WITHHOLDING, compares_columns=False),
    "random-forwards": Rule(Severity.WITHHOLDING, compares_columns=False),
    "batch-dependence": Rule(Severity.WITHHOLDING, compares_columns=False),
    "large-eps-survivors": Rule(Severity.WITHHOLDING, compares_columns=False),
    "worst-below-autoattack": Rule(Severity.WITHHOLDING, compares_columns=True),
    "square-gain": Rule(Severity.WITHHOLDING, compares_columns=True),
    "noise-beats-pgd": Rule(Severity.WITHHOLDING, compares_columns=True),
    "transfer-beats-white-box": Rule(Severity.WITHHOLDING, compares_columns=True),
    "convergence": Rule(Severity.WITHHOLDING, compares_columns=True),
    "stronger-attack-finds-less": Rule(Severity.WITHHOLDING, compares_columns=True),
    "autoattack-far-below-pgd": Rule(Severity.CAUTION, compares_columns=True),
}
"""Every masking flag by name. One that is not here withholds: a record may be newer than this table."""
_UNKNOWN = Rule(Severity.WITHHOLDING, compares_columns=False)
_PGD_AGAINST_ITSELF = "pgd100 - pgd20"


def severity(flag: Flag, images: int, limits: FlagThresholds | None = None) -> Severity | None:
    """Return what a flag does to its row; None if it is not raised, or a validity flag.

    Args:
        flag: as the record has it, with its evidence.
        images: test images that were attacked.
        limits: the protocol's thresholds; its defaults if None.
    """
    if flag.state != "raised" or flag.kind != "masking":
        return None
    limits = limits or FlagThresholds()
    rule = RULES.get(flag.name, _UNKNOWN)
    if rule.compares_columns and images < limits.low_power_images:
        return Severity.CAUTION
    if flag.name == "stronger-attack-finds-less" and not _autoattack_is_weak(flag, limits):
        return Severity.CAUTION
    return rule.severity


def _autoattack_is_weak(flag: Flag, limits: FlagThresholds) -> bool:
    """Whether AutoAttack, not only PGD-100, leaves more than a weaker attack; yes where evidence is missing."""
    margin = flag.evidence.get("m", 0)
    pairs = {name: found for name, found in flag.evidence.items() if isinstance(found, dict)}
    raised = {name for name, found in pairs.items() if found["images"] > margin and found["p"] < limits.p_value}
    return raised != {_PGD_AGAINST_ITSELF}
