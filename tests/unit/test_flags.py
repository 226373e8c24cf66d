import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from advbench.benchmark.protocol import published
from advbench.benchmark.records import flag_rules, flags
from advbench.benchmark.records.flags import ABOUT, TrainingFacts
from advbench.benchmark.records.schema import STAGES, Evaluation, Outcomes, Record

PROTOCOL = published()["cifar10-linf/1"]
N, CLASSES = 2000, 10
CLEAR = {
    "images": N,
    "examined": 1600,
    "random_images": 0,
    "random_images_at": [],
    "max_forward_difference": 0.0,
    "batch_dependent_images": 0,
    "batch_dependent_images_at": [],
    "max_batch_difference": 3e-7,
    "probability_rows": 0,
    "gradient_not_finite_clean": 0,
    "gradient_not_finite_clean_at": [],
    "gradient_not_finite_near": 0,
    "gradient_not_finite_near_at": [],
    "gradient_zero_clean": 16,
    "gradient_zero_clean_at": [1],
    "gradient_zero_near": 0,
    "gradient_zero_near_at": [],
    "large_eps_survivors": 80,
    "large_eps_survivors_at": [2],
    "noise_right": 1500,
}


def first(count, n=N):
    """The first `count` of n images are right."""
    return np.arange(n) < count


def evaluation(clean=1600, pgd20=1000, pgd100=995, cw=980, stages=(960, 910, 909, 908), *, n=N, **bits):
    counts = {"clean": clean, "pgd20": pgd20, "pgd100": pgd100, "cw": cw, "autoattack": stages[-1]}
    columns = {name: Outcomes.pack(bits.get(name, first(count, n))) for name, count in counts.items()}
    return Evaluation(
        columns=columns,
        stages={name: Outcomes.pack(first(count, n)) for name, count in zip(STAGES, stages, strict=True)},
        predicted_classes=(n // 10,) * 10,
    )


def find(case=None, examined=CLEAR, training=None, protocol=PROTOCOL):
    training = training or TrainingFacts(robust=True, selection="validation-pgd")
    found = flags.find(case or evaluation(), examined, protocol=protocol, num_classes=CLASSES, training=training)
    return {flag.name: flag for flag in found}


def raised(*args, **kwargs):
    return {name for name, flag in find(*args, **kwargs).items() if flag.state == "raised"}


def test_a_sound_evaluation_raises_nothing():
    found = find()
    assert list(found) == [name for name in ABOUT if name != "test-above-validation"]
    states = {name: flag.state for name, flag in found.items()}
    assert {states.pop("transfer-beats-white-box"), states.pop("convergence")} == {"not run"}
    assert set(states.values()) == {"clear"}
    json.dumps([flag.model_dump() for flag in found.values()], allow_nan=False)


@pytest.mark.parametrize(
    ("images", "clean", "pgd", "is_raised"),
    [
        (1000, 0.8, 0.5, False),
        (1000, 0.74, 0.5, True),  # 80 % of 2,000 test images, 3.7 standard errors above
        (1000, 0.76, 0.5, False),
        (1000, 0.8, 0.43, True),
        (100, 0.7, 0.4, False),
        (0, 0.0, 0.0, False),
    ],
)
def test_a_test_figure_far_above_validation_is_flagged(images, clean, pgd, is_raised):
    training = TrainingFacts(selection="validation-pgd", validation=flag_rules.Validation(images, clean, pgd))
    found = find(training=training)
    assert ("test-above-validation" in found) == is_raised
    assert raised(training=training) == ({"test-above-validation"} if is_raised else set())


def test_no_published_record_would_be_flagged_for_its_validation():
    for file in (Path(__file__).resolve().parents[2] / "leaderboards/records").rglob("seed*.json"):
        record = Record.load(file)
        for name, checkpoint in record.checkpoints.items():
            robust, images = record.method.robust, record.data.validation
            training = TrainingFacts.of(name, checkpoint.epoch, record.training, robust=robust, images=images)
            assert training.validation is not None
            assert flag_rules.test_above_validation(checkpoint.evaluation, training) is None


def test_every_flag_is_explained():
    for name, about in ABOUT.items():
        assert about.url.startswith("https://arxiv.org/abs/"), name
        assert about.sign
        assert about.hint


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("non-finite-gradients", {"gradient_not_finite_clean": 1}),
        ("non-finite-gradients", {"gradient_not_finite_near": 1}),
        ("zero-gradients", {"gradient_zero_clean": 17}),
        ("zero-gradients", {"gradient_zero_near": 17}),
        ("probabilities", {"probability_rows": N}),
        ("random-forwards", {"max_forward_difference": 1.1e-4, "random_images": 3}),
        ("batch-dependence", {"max_batch_difference": 1.1e-4, "batch_dependent_images": 3}),
        ("large-eps-survivors", {"large_eps_survivors": 81}),
        ("noise-beats-pgd", {"noise_right": 994}),
        ("transfer-beats-white-box", {"transfer_right:standard": 1500, "transfer_right:pgd_at": 994}),
    ],
)
def test_examination_raises_one_flag(name, change):
    assert raised(examined={**CLEAR, **change}) == {name}


@pytest.mark.parametrize(
    "change",
    [{"noise_right": 995}, {"transfer_right:standard": 995}, {"probability_rows": N // 2}, {"large_eps_survivors": 80}],
)
def test_at_the_threshold_nothing_is_raised(change):
    assert raised(examined={**CLEAR, **change}) == set()


def test_without_examination_its_flags_are_not_run():
    found = find(examined=None)
    not_run = {name for name, flag in found.items() if flag.state == "not run"}
    assert not_run == {
        "convergence",
        "non-finite-gradients",
        "zero-gradients",
        "probabilities",
        "random-forwards",
        "batch-dependence",
        "large-eps-survivors",
        "noise-beats-pgd",
        "transfer-beats-white-box",
    }
    assert all(found[name].reason for name in not_run)


def test_random_forwards_leave_the_batch_open():
    examined = {**CLEAR, "max_forward_difference": 0.5, "max_batch_difference": 0.5}
    found = find(examined=examined)
    assert found["random-forwards"].state == "raised"
    assert found["batch-dependence"].state == "not run"


class TestRatio:
    @pytest.mark.parametrize(
        ("auto", "state"), [(680, "raised"), (749, "raised"), (750, "clear"), (830, "clear"), (1000, "clear")]
    )
    def test_anchors(self, auto, state):
        """GAIRAT's 0.68 is caught; AT-AWP's 0.83, LBGAT's 0.84 and MART's 0.87 are not."""
        found = find(evaluation(cw=900, stages=(900, auto, auto, auto)))
        assert found["autoattack-far-below-pgd"].state == state

    def test_a_wide_interval_is_not_enough(self):
        few = evaluation(80, 30, 30, 28, (22, 22, 22, 22), n=100, autoattack=first(22, 100))
        found = find(few)["autoattack-far-below-pgd"]
        assert found.evidence["ratio"] < 0.75
        assert found.evidence["upper"] > 0.85
        assert found.state == "clear"
        assert found.evidence["low_power"]

    def test_below_the_floor(self):
        assert find(evaluation(1600, 299, 299, 299, (9, 9, 9, 9)))["autoattack-far-below-pgd"].state == "clear"

    def test_multinomial_is_the_bootstrap_over_images(self):
        rng = np.random.default_rng(0)
        pgd = rng.random(300) < 0.5
        auto = pgd & (rng.random(300) < 0.8)
        drawn = rng.integers(300, size=(20_000, 300))
        direct = np.quantile(auto[drawn].sum(1) / pgd[drawn].sum(1), 0.975)
        assert flag_rules.ratio_upper(auto, pgd, draws=20_000, seed=1) == pytest.approx(direct, abs=0.003)


class TestOrder:
    def test_excess_is_mcnemar(self):
        rng = np.random.default_rng(1)
        a, b = rng.random(500) < 0.6, rng.random(500) < 0.5
        more, fewer = int((a & ~b).sum()), int((b & ~a).sum())
        expected = binomtest(more, more + fewer, 0.5, alternative="greater").pvalue
        assert flag_rules.excess_p(a, b) == pytest.approx(expected)
        assert flag_rules.excess_p(a, a) == 1

    @pytest.mark.parametrize(
        "case",
        [
            evaluation(pgd100=1010),
            evaluation(cw=1100, stages=(1020, 1020, 1020, 1020)),
            evaluation(cw=900, stages=(920, 920, 920, 920)),
        ],
    )
    def test_raised(self, case):
        assert "stronger-attack-finds-less" in raised(case)

    def test_within_m_or_by_chance(self):
        assert "stronger-attack-finds-less" not in raised(evaluation(pgd100=1005))
        chance = first(1000)
        chance[940:1000], chance[1000:1070] = False, True  # ten more, but 70 against 60
        case = evaluation()
        columns = {**case.columns, "pgd100": Outcomes.pack(chance)}
        assert "stronger-attack-finds-less" not in raised(case.model_copy(update={"columns": columns}))


def test_worst_case_below_autoattack():
    case = evaluation()
    other = first(980)
    other[:6] = False  # CW fools six that AutoAttack does not
    assert "worst-below-autoattack" in raised(
        case.model_copy(update={"columns": {**case.columns, "cw": Outcomes.pack(other)}})
    )
    other[0] = True
    assert "worst-below-autoattack" not in raised(
        case.model_copy(update={"columns": {**case.columns, "cw": Outcomes.pack(other)}})
    )


def test_square_gain():
    assert "square-gain" in raised(evaluation(stages=(960, 910, 909, 903)))
    assert "square-gain" not in raised(evaluation(stages=(960, 910, 909, 904)))


def test_margin_grows_with_the_test_set():
    case = evaluation(8000, 5000, 4990, 4980, (4900, 4800, 4800, 4781), n=10_000)
    found = find(case, {**CLEAR, "noise_right": 4979, "images": 10_000})
    assert found["square-gain"].evidence["m"] == 20
    assert "low_power" not in found["square-gain"].evidence
    assert found["square-gain"].state == "clear"
    assert found["noise-beats-pgd"].state == "raised"


def test_logits_not_finite_under_attack():
    case = evaluation()
    settings = {"noted": {"adversarial_logits_not_finite": 3}}
    columns = {**case.columns, "pgd20": case.columns["pgd20"].model_copy(update={"settings": settings})}
    case = case.model_copy(update={"columns": columns})
    assert raised(case) == {"non-finite-gradients"}
    assert find(case, None)["non-finite-gradients"].state == "raised"


class TestValidity:
    def test_selection(self):
        assert raised(training=TrainingFacts(selection="test")) == {"selection"}
        assert raised(training=TrainingFacts(selection="test", checkpoint="last")) == set()
        assert find(training=TrainingFacts())["selection"].state == "not run"

    def test_incomplete(self):
        case = evaluation()
        columns = {name: outcomes for name, outcomes in case.columns.items() if name != "autoattack"}
        found = find(case.model_copy(update={"columns": columns, "stages": {}}))
        assert found["test-set-incomplete"].state == "raised"
        assert found["test-set-incomplete"].evidence == {"incomplete": ["autoattack"]}
        assert found["autoattack-far-below-pgd"].state == "not run"
        assert found["worst-below-autoattack"].state == "not run"
        empty = find(Evaluation(), None)
        assert empty["test-set-incomplete"].state == "raised"
        assert empty["collapsed"].state == "not run"

    def test_collapsed_by_clean_accuracy(self):
        assert "collapsed" in raised(evaluation(399, 300, 300, 300, (300,) * 4))
        assert "collapsed" not in raised(evaluation(400, 300, 300, 300, (300,) * 4))

    def test_collapsed_by_one_class(self):
        constant = evaluation().model_copy(update={"predicted_classes": (1801, 199, *[0] * 8)})
        assert "collapsed" in raised(constant)
        nearly = evaluation().model_copy(update={"predicted_classes": (1800, 200, *[0] * 8)})
        assert "collapsed" not in raised(nearly)

    def test_images_without_a_prediction_count_among_all_images(self):
        """Logits that are not finite are no class: one class of the finite rest is not 90 % of all predictions."""
        broken = evaluation().model_copy(update={"predicted_classes": (1700, *[0] * 9)})
        assert "collapsed" not in raised(broken)

    def test_collapsed_last_of_a_robust_method(self):
        gone = evaluation(1600, 99, 99, 99, (90,) * 4)
        robust = TrainingFacts(robust=True, checkpoint="last", selection="validation-pgd")
        assert "collapsed" in raised(gone, training=robust)
        assert "collapsed" not in raised(gone, training=dataclasses.replace(robust, checkpoint="best"))
        assert "collapsed" not in raised(gone, training=dataclasses.replace(robust, robust=False))

    def test_diverged(self):
        assert "collapsed" in raised(training=TrainingFacts(diverged=True))

    def test_a_collapsed_network_is_not_called_masked(self):
        constant = evaluation(200, 200, 200, 200, (200,) * 4).model_copy(update={"predicted_classes": (N, *[0] * 9)})
        examined = {**CLEAR, "gradient_zero_clean": 200, "examined": 200, "large_eps_survivors": 200}
        found = find(constant, examined)
        assert {name for name, flag in found.items() if flag.state == "raised"} == {"collapsed"}
        assert found["zero-gradients"].state == "not run"
        assert "collapsed" in found["zero-gradients"].reason


def test_raised_by_kind():
    found = tuple(find(examined={**CLEAR, "probability_rows": N}, training=TrainingFacts(selection="test")).values())
    assert [flag.name for flag in flags.raised(found)] == ["probabilities", "selection"]
    assert [flag.name for flag in flags.raised(found, "masking")] == ["probabilities"]


def test_thresholds_are_the_protocols():
    lenient = dataclasses.replace(PROTOCOL.flags, zero_gradient_share=0.5)
    protocol = dataclasses.replace(PROTOCOL, flags=lenient)
    examined = {**CLEAR, "gradient_zero_clean": 300}
    assert raised(examined=examined) == {"zero-gradients"}
    assert raised(examined=examined, protocol=protocol) == set()


def test_flags_do_not_import_torch():
    code = "import sys, advbench.benchmark.records.flags; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
