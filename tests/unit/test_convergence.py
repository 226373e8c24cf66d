"""Has AutoAttack's figure converged? Attacks beyond it on a sample of its survivors, and what is made of them."""

import dataclasses
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch import nn

from advbench.benchmark.attacks.autoattack import convergence, engine, network_view
from advbench.benchmark.attacks.autoattack.convergence import BEYOND, Effort
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.evaluation import evaluator
from advbench.benchmark.evaluation.evaluator import evaluate_shard
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import Threat, published
from advbench.benchmark.records.flag_rules import Case, more_than
from advbench.benchmark.records.flag_rules import convergence as judge
from advbench.benchmark.records.schema import STAGES, Evaluation, Outcomes, Passes

N, CLASSES, EPS = 40, 5, Fraction(1, 20)
MARGINS = 0.005 + 0.01 * torch.arange(N)
"""By how much a pixel of the label's column is brighter: whoever has more than 2 eps survives every attack."""


class Columns(nn.Module):
    """Logit = brightness of a column of (1, 6, 5) images: its margins are known."""

    def forward(self, x):
        return x.sum(dim=(1, 2))


@pytest.fixture(scope="module")
def images():
    y = torch.arange(N) % CLASSES
    x = torch.full((N, 1, 6, 5), 0.3)
    x[torch.arange(N), 0, :, y] += MARGINS[:, None]
    return x, y


@pytest.fixture(scope="module")
def protocol():
    digits = published()["digits-linf/1"]
    return dataclasses.replace(
        digits,
        name="test/1",
        threat=Threat("linf", EPS),
        attacks=dataclasses.replace(digits.attacks, shard=N, engine="exact"),
        flags=dataclasses.replace(digits.flags, convergence_every=4, convergence_iterations=20),
    )


def proposals(images, attack, chosen=range(N), effort=None):
    x, y = images
    index = list(chosen)
    options = {"ball": Ball("linf", float(EPS)), "key": "key", "images": index}
    view = network_view.plain(Columns())
    return convergence.propose(view, x[index], y[index], attack, effort=effort or Effort(4, 2, 20), **options)


@pytest.mark.parametrize("attack", BEYOND)
def test_an_attack_fools_exactly_who_can_be_fooled_and_company_changes_nothing(images, attack):
    x, y = images
    found = proposals(images, attack)
    assert (found - x).abs().amax() <= float(EPS) + 1e-6
    wrong = Columns()(found).argmax(dim=1) != y
    assert wrong.tolist() == (2 * float(EPS) > MARGINS).tolist()
    assert torch.equal(found[1::3], proposals(images, attack, range(1, N, 3)))


@pytest.mark.parametrize(("attack", "rows"), [("apgd-t", 4 * 2), ("probability-margin", 1)])
def test_passes_of_a_survivor(images, attack, rows):
    view, ledger = network_view.plain(Columns()), Ledger()
    ledger.watch(view.network)
    x, y = (part[-3:] for part in images)
    with ledger.differentiating("input"):
        convergence.propose(
            view, x, y, attack, ball=Ball("linf", float(EPS)), effort=Effort(4, 2, 20), key="", images=range(3)
        )
    assert ledger.passes.forwards == 3 * (1 + rows * 2 * 21)


@pytest.fixture(scope="module")
def attacked(images, protocol):
    """AutoAttack with few queries, as it is and with an engine that finds nothing."""

    def evaluate(patch, named):
        patch.setattr(evaluator.engine, "Request", partial(engine.Request, queries=20))
        return evaluate_shard(Columns(), *images, first=0, family="autoattack", protocol=named, seed=0)

    with pytest.MonkeyPatch.context() as patch:
        honest = evaluate(patch, protocol)
        without = evaluate(patch, dataclasses.replace(protocol, flags=published()["digits-linf/1"].flags))
        patch.setattr(evaluator.engine, "propose", lambda view, x, y, request: x)
        blind = evaluate(patch, protocol)
    return honest, without, blind


def test_outcomes_and_cost_of_autoattack_are_those_without_the_sample(attacked):
    honest, without, _ = attacked
    assert honest.columns["autoattack"].tolist() == without.columns["autoattack"].tolist()
    assert honest.costs["autoattack"].passes == sum((honest.costs[stage].passes for stage in STAGES), Passes())
    sampled = sum(honest.columns["autoattack"][::4])
    assert honest.costs["convergence"].passes.forwards >= sampled * (3 * 5 + 1) * 2 * 21
    assert honest.passes == honest.costs["autoattack"].passes + honest.costs["convergence"].passes
    assert "convergence" not in without.costs
    assert "convergence" not in without.settings["autoattack"]


def test_the_sample_is_every_so_many_th_image_that_survives(attacked):
    honest, _, blind = attacked
    assert honest.evidence["autoattack:convergence_sampled"] == sum(honest.columns["autoattack"][::4])
    assert honest.evidence["autoattack:convergence_fooled"] == 0
    assert blind.evidence["autoattack:convergence_sampled"] == N / 4
    assert blind.evidence["autoattack:convergence_at"] == [0, 4, 8]
    assert blind.evidence["autoattack:convergence_fooled"] == 3
    assert blind.settings["autoattack"]["convergence"] == {
        "targets": 3, "restarts": 5, "iterations": 20, "attacks": list(BEYOND), "every": 4
    }  # fmt: skip


def finding(protocol, n=1000, survivors=500, **noted):
    """What is said of AutoAttack's column."""
    settings = {"convergence": {"attacks": list(BEYOND)}, "noted": {f"convergence_{k}": v for k, v in noted.items()}}
    column = Outcomes.pack([image < survivors for image in range(n)], settings=settings if noted else {})
    return judge(Case(Evaluation(columns={"autoattack": column}), None, protocol, 10))


def test_few_fooled_images_are_clear_and_many_are_not(protocol):
    """m is 5 images of 1,000, a hundredth of the survivors: one or two of 50 may be chance."""
    assert finding(protocol, sampled=50)[0] == "clear"
    assert finding(protocol, sampled=50, fooled=2)[0] == "clear"
    state, evidence, reason = finding(protocol, sampled=50, fooled=4)
    assert state == "raised"
    assert reason == "attacks beyond AutoAttack fool 4 of 50 sampled survivors"
    assert (evidence["survivors"], evidence["sampled"], evidence["m"]) == (500, 50, 5)


def test_a_sample_of_all_survivors_is_judged_by_m_alone():
    assert more_than(5, survivors=200, sampled=200, fooled=5) == 1
    assert more_than(5, survivors=200, sampled=200, fooled=6) == 0


def test_the_chance_of_a_false_alarm_is_below_p(protocol):
    """Of 500 survivors 5 can be fooled, which is no more than m: the flag is raised in fewer than p of the samples."""
    generator = torch.Generator().manual_seed(0)
    drawn = [int((torch.randperm(500, generator=generator)[:50] < 5).sum()) for _ in range(2000)]
    alarms = [finding(protocol, sampled=50, fooled=fooled)[0] == "raised" for fooled in set(drawn)]
    rate = sum(drawn.count(fooled) for fooled, alarm in zip(set(drawn), alarms, strict=True) if alarm) / len(drawn)
    assert rate < protocol.flags.p_value


def test_what_was_not_tried_is_not_run(protocol):
    assert finding(protocol)[0] == "not run"
    assert finding(protocol, sampled=0)[0] == "not run"
    assert judge(Case(Evaluation(), None, protocol, 10))[0] == "not run"
