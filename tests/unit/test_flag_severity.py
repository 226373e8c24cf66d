"""What raised flags do to a row: on masked networks of the red team, on published records, and flag by flag."""

import json
from pathlib import Path

import pytest

from advbench.benchmark.protocol import FlagThresholds
from advbench.benchmark.records.flags import ABOUT, Severity, doubted, severity
from advbench.benchmark.records.schema import Flag, Record

MASKED = json.loads((Path(__file__).parent / "masked_networks.json").read_text(encoding="utf-8"))
"""Raised masking flags of the red team's networks on 360 digits (tests/redteam/test_masking.py), with AutoAttack where
it can run, without lists of images."""
ONLY_CROSS_ENTROPY_IS_FOOLED = {"saturate_easy", "tiny_logits"}
"""Logits rescaled: AutoAttack leaves 6.1 % and 6.4 %, and 6.1 % of the same network without the trick."""
RECORDS = Path(__file__).parents[2] / "leaderboards" / "records"


def raised(name, **evidence):
    return Flag(name=name, kind="masking", state="raised", evidence=evidence)


def effect(flag, images, limits=None):
    return severity(flag, images, limits or FlagThresholds())


def severities(flags, images):
    return {flag.name: found for flag in flags if (found := effect(flag, images)) is not None}


def test_only_masking_flags_doubt_columns():
    for name, about in ABOUT.items():
        assert set(about.columns) <= {"pgd20", "pgd100", "cw", "autoattack"}, name
        assert not about.columns or about.kind == "masking", name


@pytest.mark.parametrize("network", sorted(MASKED))
def test_masked_networks(network):
    found = severities([Flag(kind="masking", state="raised", **plain) for plain in MASKED[network]], 360)
    assert found
    if network in ONLY_CROSS_ENTROPY_IS_FOOLED:
        assert found["autoattack-far-below-pgd"] is Severity.CAUTION
        assert set(found.values()) == {Severity.CAUTION}
    else:
        assert Severity.WITHHOLDING in found.values()


@pytest.fixture(scope="module")
def published():
    return [Record.load(path) for path in sorted(RECORDS.rglob("seed*.json"))]


def test_honest_published_networks_keep_their_ranks(published):
    for record in published:
        for checkpoint in record.checkpoints.values():
            found = severities(checkpoint.evaluation.flags, record.data.test)
            assert Severity.WITHHOLDING not in found.values(), record.run


def test_act_is_ranked_with_a_caution(published):
    """CE-PGD overstates its robustness: AutoAttack keeps 0.71 to 0.77 of PGD-20, and nothing says that it is wrong."""
    found = [
        severities(record.checkpoints["best"].evaluation.flags, record.data.test)
        for record in published
        if record.method.name == "act" and record.data.test >= 360
    ]
    assert {"autoattack-far-below-pgd": Severity.CAUTION} in found
    assert all(Severity.WITHHOLDING not in one.values() for one in found)


@pytest.mark.parametrize(
    "name",
    [
        "non-finite-gradients",
        "zero-gradients",
        "probabilities",
        "random-forwards",
        "batch-dependence",
        "large-eps-survivors",
    ],
)
def test_what_compares_no_columns_withholds_on_any_number_of_images(name):
    assert effect(raised(name), 10_000) is Severity.WITHHOLDING
    assert effect(raised(name), 100) is Severity.WITHHOLDING


@pytest.mark.parametrize(
    "name", ["worst-below-autoattack", "square-gain", "noise-beats-pgd", "transfer-beats-white-box", "convergence"]
)
def test_what_compares_columns_withholds_on_enough_images(name):
    assert effect(raised(name), 1000) is Severity.WITHHOLDING
    assert effect(raised(name), 999) is Severity.CAUTION
    assert effect(raised(name), 999, FlagThresholds(low_power_images=500)) is Severity.WITHHOLDING


def test_a_low_ratio_is_a_caution_always():
    assert effect(raised("autoattack-far-below-pgd", ratio=0.2), 10_000) is Severity.CAUTION


@pytest.mark.parametrize(
    ("excess", "expected"),
    [
        ({"pgd100 - pgd20": (40, 1e-6)}, Severity.CAUTION),
        ({"pgd100 - pgd20": (40, 1e-6), "autoattack - cw": (20, 1e-9)}, Severity.CAUTION),
        ({"pgd100 - pgd20": (40, 1e-6), "autoattack - cw": (40, 0.2)}, Severity.CAUTION),
        ({"pgd100 - pgd20": (40, 1e-6), "autoattack - cw": (40, 1e-6)}, Severity.WITHHOLDING),
        ({"autoattack - pgd20": (40, 1e-6)}, Severity.WITHHOLDING),
        ({}, Severity.WITHHOLDING),
    ],
)
def test_pgd_against_itself_is_a_caution_and_a_weak_autoattack_is_not(excess, expected):
    pairs = dict.fromkeys(("pgd100 - pgd20", "autoattack - pgd20", "autoattack - cw"), (0, 1.0)) | excess
    evidence = {name: {"images": images, "p": p} for name, (images, p) in pairs.items()} if excess else {}
    flag = raised("stronger-attack-finds-less", m=20.0, n=10_000, **evidence)
    assert effect(flag, 10_000) is expected
    assert effect(flag, 360) is Severity.CAUTION
    assert ("autoattack" in doubted(flag, FlagThresholds())) == (expected is Severity.WITHHOLDING)


@pytest.mark.parametrize("state", ["clear", "not run"])
def test_what_is_not_raised_does_nothing(state):
    assert effect(Flag(name="zero-gradients", kind="masking", state=state), 10_000) is None


def test_validity_is_neither():
    assert effect(Flag(name="collapsed", kind="validity", state="raised"), 10_000) is None


def test_a_flag_of_a_newer_version_withholds():
    assert effect(raised("from-the-future"), 100) is Severity.WITHHOLDING
