"""Estimates of time and disk say what they rest on."""

import dataclasses

import pytest

from advbench.benchmark.runs import estimate
from advbench.benchmark.runs.plan import plan, sizes


class TestEstimates:
    def test_known_sizes(self, made):
        assert sizes(made.DIGITS.data) == (1_497, 100)
        assert sizes(made.CIFAR.data) == (49_000, 10_000)
        assert sizes(dataclasses.replace(made.CIFAR.data, train_limit=500, test_limit=60)) == (500, 60)
        assert sizes(dataclasses.replace(made.CIFAR.data, name="mine")) is None

    def test_passes_of_training_and_attacks(self, store, made):
        by_kind = {
            (job.kind, job.family): job
            for job in plan(made.suite("pgd_at", protocols=(made.CIFAR,)), store, made.CATALOGUE)
        }
        assert estimate.passes(by_kind["train", None], made.CATALOGUE) == 200 * (49_000 * 23 + 1_000 * 22)
        assert estimate.passes(by_kind["evaluate", "pgd"], made.CATALOGUE) == 10_000 * 203
        assert estimate.passes(by_kind["evaluate", "autoattack"], made.CATALOGUE) == pytest.approx(
            1e4 * (100 + 0.49 * 9_700)
        )

    def test_what_has_no_robustness_falls_early_and_convergence_costs(self, store, made):
        """A network that was trained without an adversary costs a fiftieth; what validation found counts."""

        def cost(method, protocol=made.CIFAR, known=None):
            jobs = plan(made.suite(method, protocols=(protocol,)), store, made.CATALOGUE)
            return estimate.passes(next(job for job in jobs if job.family == "autoattack"), made.CATALOGUE, known) / 1e4

        assert cost("standard") == 100
        found = estimate.History(robust={(made.CIFAR.digest, "pgd_at"): [0.2, 0.3, 0.3]})
        assert cost("pgd_at", known=found) == pytest.approx(100 + 0.3 * 9_700)
        flags = dataclasses.replace(made.CIFAR.flags, convergence_every=25)
        sampled = dataclasses.replace(made.CIFAR, flags=flags)
        assert cost("pgd_at", sampled) - cost("pgd_at") == pytest.approx(0.49 * 2 * 3 * 5 * 500 / 25)

    def test_selection_by_the_worst_case_attacks_twice(self, store, made):
        selection = dataclasses.replace(made.CIFAR.selection, measure="worst")
        job = plan(
            made.suite("pgd_at", protocols=(dataclasses.replace(made.CIFAR, selection=selection),)),
            store,
            made.CATALOGUE,
        )[0]
        assert estimate.passes(job, made.CATALOGUE) == 200 * (49_000 * 23 + 1_000 * (2 * 21 + 1))

    def test_estimates_say_how_wrong_they_would_have_been(self, store, made):
        made.finish(store, made.suite("trades", "standard"))
        machine = estimate.Machine({"smallcnn": 1e-6})
        ratios = estimate.past(estimate.history(store), made.CATALOGUE, machine)
        assert ratios == pytest.approx(sorted(60 / (12e-6 * (1_497 * each + 200 * 22)) for each in (27, 3)))
        assert estimate.past(estimate.history(store), made.CATALOGUE, estimate.Machine()) == ()

    def test_nothing_is_known_of_an_empty_store(self, store, made):
        jobs = plan(made.suite("trades"), store, made.CATALOGUE)
        known, machine = estimate.history(store), estimate.Machine()
        found = {estimate.estimate(job, made.CATALOGUE, known, machine) for job in jobs}
        assert found == {estimate.Estimate(None, "unknown")}
        assert estimate.disk(jobs, known, machine) is None

    def test_an_assumed_speed_is_said_to_be_assumed(self, store, made):
        machine = estimate.Machine({"smallcnn": 1e-3}, {"smallcnn": 1_000})
        jobs = plan(made.suite("trades"), store, made.CATALOGUE)
        known = estimate.history(store)
        for job in jobs:
            found = estimate.estimate(job, made.CATALOGUE, known, machine)
            assert found.basis == "assumed"
            assert found.seconds == pytest.approx(estimate.passes(job, made.CATALOGUE) / 1_000)
        assert estimate.disk(jobs, known, machine) == 24_000

    def test_what_was_measured_goes_before_what_is_scaled_by_passes(self, store, made):
        made.finish(store, made.suite("trades"))
        known = estimate.history(store)
        jobs = plan(made.suite("trades", "standard", seeds=(1,)), store, made.CATALOGUE)
        found = {
            (job.run.method, job.kind, job.family): estimate.estimate(job, made.CATALOGUE, known, estimate.Machine())
            for job in jobs
        }
        assert found["trades", "train", None] == estimate.Estimate(60.0, "measured")
        assert found["standard", "evaluate", "cw"] == estimate.Estimate(4.0, "measured")
        scaled = found["standard", "train", None]
        assert scaled.basis == "scaled"
        assert scaled.seconds == pytest.approx(60 / 600 * 12 * (1_497 * 3 + 200 * 22))
