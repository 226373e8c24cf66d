"""The tuned and the own-recipe division: what is tried, chosen and trained, and that no trial sees a test image."""

import dataclasses
import json

import pytest
from pydantic import ValidationError

from advbench.benchmark.data import registry
from advbench.benchmark.protocol import Protocol, ProtocolError, published
from advbench.benchmark.recipe import Budget, Recipe, in_words
from advbench.benchmark.records.schema import Record
from advbench.benchmark.records.tuning import Trial, Tuning
from advbench.benchmark.review import bundle, consistency
from advbench.benchmark.runs import perform, suites, tuning
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.perform import WorkError
from advbench.benchmark.runs.plan import MethodFacts, MethodRequest, PlanError, Suite, plan, runs
from advbench.benchmark.runs.store import Store

BUDGET = Budget(3)
DIGITS = published()["digits-linf/2"]
KNOWN = {
    "pgd_at": MethodFacts({"release_bn": False}),
    "trades": MethodFacts({"beta": 6.0, "release_bn": False}, tunable={"beta": (1.0, 3.0, 6.0, 9.0)}),
    "taught": MethodFacts({}, requires={"robust": "pgd_at"}),
}


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    """A second of training: 128 images, one epoch of two steps; 12 test images."""
    training = DIGITS.training
    return dataclasses.replace(
        DIGITS,
        name="mini/1",
        seeds=(0, 1),
        data=dataclasses.replace(DIGITS.data, train_limit=128, test_limit=12),
        training=dataclasses.replace(training, epochs=1, inner=dataclasses.replace(training.inner, steps=1)),
        selection=dataclasses.replace(DIGITS.selection, steps=1),
    )


class Closed:
    """A test set that must not be opened."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the test set was asked for {name}")


@pytest.fixture(scope="module")
def studied(protocol, tmp_path_factory) -> tuple[Store, Suite, Tuning]:
    """All trials of TRADES, trained by the real worker where the test set is closed, and the choice among them."""
    store, known = Store(tmp_path_factory.mktemp("tuned")), perform.catalogue()
    suite = tuning.trials(protocol, "trades", known, BUDGET)
    with pytest.MonkeyPatch.context() as patch:
        load = registry.load
        patch.setattr(registry, "load", lambda *given, **more: dataclasses.replace(load(*given, **more), test=Closed()))
        perform._dataset.cache_clear()
        for job in plan(suite, store, known):
            perform.perform(job, store.root)
        perform._dataset.cache_clear()
    found = tuning.choose(suite, store, known)
    assert found is not None
    return store, suite, found


def test_draws_are_those_of_the_digest_and_a_larger_budget_goes_on():
    few, many = (tuning.candidates(DIGITS, "trades", KNOWN["trades"], Budget(count)) for count in (6, 12))
    assert few == many[:6]
    assert few[0] == MethodRequest("trades", trial=True)
    assert len({str(request) for request in many}) == 12
    other = dataclasses.replace(DIGITS, name="other/1")
    assert tuning.candidates(other, "trades", KNOWN["trades"], Budget(6)) != few
    every = tuning.draws("ab" * 32, {"a": (1, 2, 3), "b": (1.0, 2.0)})
    assert sorted((draw["a"], draw["b"]) for draw in every) == [(a, b) for a in (1, 2, 3) for b in (1.0, 2.0)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((DIGITS, "pgd_at", KNOWN["pgd_at"], Budget(13)), "its space has 12 settings, fewer than a budget of 13"),
        ((published()["digits-linf/1"], "pgd_at", KNOWN["pgd_at"], BUDGET), "its newer version measures that"),
        ((DIGITS, "many", MethodFacts({}, tunable=dict.fromkeys("abcd", (1, 2))), BUDGET), "at most 3"),
    ],
)
def test_what_cannot_be_tuned_is_refused(given, message):
    with pytest.raises(PlanError, match=message):
        tuning.candidates(*given)


def test_every_method_tunes_knobs_that_it_has_its_default_among_them_and_three_at_most():
    for name, facts in perform.catalogue().items():
        assert len(facts.tunable) <= tuning.MOST_KNOBS, name
        for knob, values in facts.tunable.items():
            assert facts.hyperparameters[knob] in values, (name, knob)
            assert len(set(values)) == len(values) > 1, (name, knob)


def test_what_a_run_has_beside_a_closed_one_changes_its_identity_and_survives_json():
    plain = {"method": "trades", "hyperparameters": {"beta": 6.0}, "seed": 0}
    recipe = Recipe(lr=0.05, drops=(5, 10))
    specs = [
        RunSpec(DIGITS, **plain),
        RunSpec(DIGITS, **plain, recipe=recipe),
        RunSpec(DIGITS, **plain, budget=Budget(6)),
        RunSpec(DIGITS, **plain, budget=Budget(6, 2)),
        RunSpec(DIGITS, **plain, budget=Budget(6), recipe=recipe),
        RunSpec(DIGITS, **plain, trial=True),
        RunSpec(DIGITS, **plain, trial=True, recipe=recipe),
    ]
    assert set(specs[0].to_plain()) == {"protocol", "method", "hyperparameters", "seed", "teachers"}
    assert len({spec.id for spec in specs}) == len(specs)
    divisions = ["closed", "own-recipe", "tuned", "tuned", "tuned", "trial", "trial"]
    assert [spec.division for spec in specs] == divisions
    for spec in specs:
        assert RunSpec.from_plain(json.loads(json.dumps(spec.to_plain()))) == spec
    assert [spec.twin for spec in specs] == [None, None, specs[0], specs[0], None, None, None]


def test_a_recipe_replaces_training_and_what_it_repeats_is_left_out():
    recipe = Recipe(lr=0.01, weight_decay=5e-4, epochs=20, drops=(5, 10), augment="none")
    differs = DIGITS.differing(recipe)
    assert differs == Recipe(lr=0.01, epochs=20, drops=(5, 10))
    assert in_words({"beta": 3.0}, differs) == "beta=3.0, lr 0.01, 20 epochs, rate / 10 at 5, 10"
    other = DIGITS.trained_by(differs)
    assert other.training.rate_at_end(12, 10) == pytest.approx(1e-4)
    assert (other.data, other.attacks) == (DIGITS.data, DIGITS.attacks)
    with pytest.raises(ProtocolError, match="reach beyond"):
        DIGITS.trained_by(Recipe(drops=(40,)))


def test_teachers_of_trials_have_their_seed_and_are_trials(tmp_path):
    suite = Suite((DIGITS,), (MethodRequest("taught", trial=True),), tuning.tuning_seeds(DIGITS, Budget(2, 2)))
    planned = runs(suite, KNOWN)
    assert [(run.spec.method, run.spec.seed, run.spec.division, run.evaluated) for run in planned] == [
        (method, seed, "trial", False) for seed in (1000, 1001) for method in ("pgd_at", "taught")
    ]
    assert not any(job.kind == "evaluate" for job in plan(suite, Store(tmp_path), KNOWN))
    row = runs(Suite((DIGITS,), (MethodRequest("taught", budget=Budget(2)),), (0,)), KNOWN)
    assert [run.spec.division for run in row] == ["closed", "tuned"]


def test_an_own_recipe_is_its_card_s_and_what_has_none_is_refused():
    assert suites.request("mart", {}, own_recipe=True).recipe == Recipe(
        lr=0.01, weight_decay=3.5e-3, epochs=120, drops=(74, 89, 99)
    )
    with pytest.raises(suites.RequestError, match="names no recipe"):
        suites.request("standard", {}, own_recipe=True)
    same = Suite((published()["cifar10-linf/2"],), (suites.request("pgd_at", {}, own_recipe=True),), (0,))
    with pytest.raises(PlanError, match="it is the same run, of the closed division"):
        runs(same, perform.catalogue())


def test_no_trial_sees_the_test_set_and_the_best_on_validation_is_chosen(studied, protocol):
    store, suite, found = studied
    assert suite.seeds == found.seeds == (1000,)
    assert [each.hyperparameters for each in found.trials] == [each.hyperparameters for each in suite.methods]
    assert found.best.score == max(trial.score for trial in found.trials)
    assert all(trial.seconds > 0 < trial.forwards for trial in found.trials)
    for folder, record in store.records():
        assert record.division == "trial"
        assert not any(checkpoint.evaluation.columns for checkpoint in record.checkpoints.values())
        with pytest.raises(WorkError, match="must not see the test set"):
            perform.perform(Job("evaluate", folder.spec, "best", "clean", (0,)), store.root)
        curve = {row.epoch: row.robust for row in record.training.curve}
        trial = next(trial for trial in found.trials if folder.id in trial.runs)
        assert trial.validation == (curve[record.training.best_epoch],)


def test_a_row_of_default_settings_takes_over_the_closed_run_and_says_how_it_was_chosen(studied, protocol, monkeypatch):
    store, _, tried = studied
    known = perform.catalogue()
    falling = (dataclasses.replace(each, validation=(0.5 - place / 10,)) for place, each in enumerate(tried.trials))
    found = dataclasses.replace(tried, trials=tuple(falling), chosen=0)
    row = tuning.tuned(protocol, "trades", found, (0,))
    closed = Suite((protocol,), (MethodRequest("trades"),), (0,))
    kinds = ("train", "clean")
    for job in plan(closed, store, known):
        if (job.family or job.kind) in kinds:
            perform.perform(job, store.root)
    monkeypatch.setattr(perform.trainer, "train", None)  # neither trained nor attacked again
    monkeypatch.setattr(perform.evaluator, "evaluate_shard", None)
    (run,) = runs(row, known)
    with pytest.raises(WorkError, match="nothing says how it was tuned"):
        perform.perform(Job("train", run.spec), store.root)
    tuning.write(found, row, store, known)
    for kind in kinds:
        job = Job("train", run.spec) if kind == "train" else Job("evaluate", run.spec, "best", "clean", (0,))
        assert perform.perform(job, store.root) == "done"
    twin, record = (store.folder(spec).record() for spec in (run.spec.twin, run.spec))
    assert (twin.division, record.division) == ("closed", "tuned")
    assert twin.checkpoints == record.checkpoints
    assert twin.run != record.run
    assert record.tuning == found
    assert not list(consistency._tuned(record, protocol))
    drawn = dataclasses.replace(found, trials=(found.trials[0], found.trials[2], found.trials[1]))
    (refused,) = consistency._tuned(record.model_copy(update={"tuning": drawn}), protocol)
    assert "its trials are not the default and the draws" in refused.message
    assert Record.model_validate_json(record.dumps()) == record
    bundle.submit([store.folder(run.spec)], store.root / "tuned.zip")
    opened = bundle.unpack(store.root / "tuned.zip", store.root / "opened")
    assert opened.records == (record,)
    assert not list(bundle.against_run(opened.run(record), record))


def test_an_own_recipe_is_followed_and_its_record_is_in_its_own_division(protocol, tmp_path):
    store, known, recipe = Store(tmp_path), perform.catalogue(), Recipe(lr=0.05, epochs=2, drops=(1,))
    suite = Suite((protocol,), (MethodRequest("trades", {}, recipe),), (0,))
    (run,) = runs(suite, known)
    perform.perform(plan(suite, store, known)[0], store.root)
    record = store.folder(run.spec).record()
    assert (record.division, record.recipe, record.protocol) == ("own-recipe", recipe, protocol)
    assert [row.lr for row in record.training.curve] == pytest.approx([0.05, 0.005])
    refused = [finding for finding in consistency.validate([record]) if finding.level == "refused"]
    assert {finding.rule for finding in refused} == {"division", "missing attack"}  # an own protocol
    closed = record.model_copy(update={"division": "closed"})
    assert "identity" in {finding.rule for finding in consistency.validate([closed])}


def trial(score: float | None) -> Trial:
    return Trial({}, None, ("r",), (score,), seconds=1.0, forwards=1)


def test_the_expected_best_of_k_draws_is_that_of_all_of_them():
    found = Tuning((1000,), {}, {}, (trial(0.2), trial(0.5), trial(None)), 1)
    scores = (0.0, 0.2, 0.5)
    pairs = [max(a, b) for a in scores for b in scores]
    triples = [max(a, b, c) for a in scores for b in scores for c in scores]
    expected = (sum(scores) / 3, sum(pairs) / 9, sum(triples) / 27)
    assert found.expected_best == pytest.approx(expected)
    assert found.budget == Budget(3)


@pytest.mark.parametrize("chosen", [0, 2])
def test_a_choice_that_is_not_the_first_best_on_validation_is_refused(chosen):
    with pytest.raises(ValueError, match="first with the highest score"):
        Tuning((1000,), {}, {}, (trial(0.2), trial(0.5), trial(0.5)), chosen)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"division": "closed"}, "closed does not fit"),
        ({"division": "tuned", "tuning": None}, "tuned does not fit"),
        ({"division": "own-recipe", "tuning": None}, "own-recipe does not fit"),
        ({"recipe": {"lr": 0.05}}, "not those of the chosen trial"),
    ],
)
def test_a_tuned_record_passes_for_no_other(studied, changed, message):
    store, _, found = studied
    record = next(record for _, record in store.records())
    best = found.best
    tuned = record.model_dump(mode="json") | {
        "division": "tuned",
        "recipe": best.recipe and best.recipe.plain(),
        "method": record.method.model_dump() | {"changed": best.hyperparameters},
        "tuning": dataclasses.asdict(found),
    }
    assert Record.model_validate(tuned).division == "tuned"
    with pytest.raises(ValidationError, match=message):
        Record.model_validate(tuned | changed)
