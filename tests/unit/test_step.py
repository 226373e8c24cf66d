"""The training step: what crafting may and may not do, one optimiser step a batch, honest logging."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from advbench.benchmark.losses import ce_sum
from advbench.benchmark.method import Card, OneNetwork
from advbench.benchmark.models.torch_state import evaluating
from advbench.benchmark.training.step import BudgetError


@pytest.fixture
def solo(tiny_task, make_step):
    task = tiny_task()
    nets = OneNetwork(task.network())
    return task, nets, make_step(nets, task)


def reference_pgd(net, x, y, x_adv, *, eps, step, steps):
    """The textbook loop, written from the formula of methods.md section 0."""
    for _ in range(steps):
        x_adv = x_adv.clone().requires_grad_()
        F.cross_entropy(net(x_adv), y).backward()
        moved = x_adv.detach() + step * x_adv.grad.sign()
        x_adv = torch.max(torch.min(moved, x + eps), x - eps).clamp(0, 1)
    return x_adv


def test_craft_is_the_textbook_pgd(solo):
    task, nets, step = solo
    batch = task.batch()
    ours = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y), start="clean")
    nets.eval()
    theirs = reference_pgd(nets.target, batch.x, batch.y, batch.x, eps=0.1, step=0.04, steps=3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-15)


@pytest.fixture
def solo_l2(tiny_task, make_step):
    task = tiny_task()
    nets = OneNetwork(task.network())
    return task, nets, make_step(nets, task, norm="l2")


def lengths(difference):
    return difference.flatten(1).norm(dim=1)


def test_craft_in_l2_is_the_textbook_pgd(solo_l2):
    """Steps along the gradient of each image divided by its norm, projected onto the ball, then clipped to [0,1]."""
    task, nets, step = solo_l2
    batch = task.batch()
    ours = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y), start="clean")
    nets.eval()
    theirs = []
    for x, y in zip(batch.x, batch.y, strict=True):
        x_adv = x
        for _ in range(3):
            x_adv = x_adv.clone().requires_grad_()
            F.cross_entropy(nets.target(x_adv[None]), y[None]).backward()
            moved = x_adv.detach() + 0.04 * x_adv.grad / x_adv.grad.norm() - x
            x_adv = (x + moved * min(1, 0.1 / float(moved.norm()))).clamp(0, 1)
        theirs.append(x_adv)
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=0, atol=1e-7)


def test_l2_has_radii_of_its_own_for_each_image_frozen_images_and_single_steps(solo_l2):
    task, nets, step = solo_l2
    batch = task.batch()

    def objective(x):
        return ce_sum(nets.target(x), batch.y)

    radii = torch.linspace(0, 1, 8, dtype=torch.float64)
    moved = lengths(step.craft(batch.x, objective, eps=radii, step=1.0) - batch.x)
    assert (moved <= 0.1 * radii * (1 + 1e-6)).all()
    assert (moved[1:] > 0.05 * radii[1:]).all()
    held = step.craft(batch.x, objective, start="clean", freeze=lambda _x_adv: torch.arange(8) < 4)
    assert torch.equal(held[:4], batch.x[:4])
    assert (lengths(held - batch.x)[4:] > 0.05).all()
    assert lengths(step.project(batch.x + 1, batch.x) - batch.x).max() <= 0.1 * (1 + 1e-6)
    assert lengths(step.single(batch.x, objective) - batch.x).max() <= 0.1 * (1 + 1e-6)
    outside = step.single(batch.x, objective, noise=2.0, step_size=1.0, project=False)
    assert 0.1 < lengths(outside - batch.x).max() <= 0.3 * (1 + 1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", ["uniform", "gaussian", "clean"])
def test_craft_stays_in_the_ball_and_in_range_and_restores_modes(tiny_task, make_step, start, norm):
    task = tiny_task()
    nets = OneNetwork(task.network())
    step = make_step(nets, task, norm=norm)
    batch = task.batch()
    nets.target[1].eval()  # a module with a mode of its own keeps it
    seen = []

    def objective(x):
        seen.append(nets.target.training)
        return ce_sum(nets.target(x), batch.y)

    x_adv = step.craft(batch.x, objective, start=start)
    assert seen == [False] * 3
    assert nets.training
    assert nets.target.training
    assert not nets.target[1].training
    assert not x_adv.requires_grad
    moved = (x_adv - batch.x).flatten(1)
    assert (moved.abs().max() if norm == "linf" else moved.norm(dim=1).max()) <= 0.1 * (1 + 1e-6)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert all(parameter.grad is None for parameter in nets.parameters())


def test_gaussian_start_is_not_clipped_before_the_first_step(solo):
    _task, nets, step = solo
    x = torch.zeros(8, 1, 4, 4, dtype=torch.float64)
    first = []

    def objective(x_adv):
        first.append(x_adv.detach().clone())
        return nets.target(x_adv).sum()

    step.craft(x, objective, start="gaussian")
    assert first[0].min() < 0
    assert first[0].abs().max() < 0.01
    step.craft(x, objective, start="uniform")
    assert first[3].min() == 0


def test_frozen_images_stay_where_they_are(solo):
    task, nets, step = solo
    batch = task.batch()
    visited = []

    def freeze(x_adv):
        visited.append(x_adv.detach().clone())
        return torch.arange(8) < 2 * len(visited)  # two more images each step

    x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y), freeze=freeze)
    assert torch.equal(x_adv[:2], visited[0][:2])
    assert torch.equal(x_adv[2:4], visited[1][2:4])
    assert not torch.equal(x_adv[6:], visited[2][6:])


@pytest.mark.parametrize("steps", [0, 4])
def test_the_inner_budget_is_a_ceiling(solo, steps):
    task, nets, step = solo
    with pytest.raises(BudgetError, match="grants 1 to 3"):
        step.craft(task.batch().x, lambda x: nets.target(x).sum(), steps=steps)


def test_single_step_projects_unless_told_not_to(solo):
    task, nets, step = solo
    batch = task.batch()
    inside = step.single(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
    assert (inside - batch.x).abs().max() <= 0.1 + 1e-12
    outside = step.single(batch.x, lambda x: ce_sum(nets.target(x), batch.y), noise=2.0, step_size=1.0, project=False)
    assert 0.1 < (outside - batch.x).abs().max() <= 0.3 + 1e-12
    assert outside.min() >= 0
    assert outside.max() <= 1


def test_predict_is_eval_mode_without_gradient(solo):
    task, nets, step = solo
    x = task.batch().x
    before = [buffer.clone() for buffer in nets.buffers()]
    logits = step.predict(nets.target, x)
    assert not logits.requires_grad
    assert nets.target.training
    assert all(torch.equal(a, b) for a, b in zip(before, nets.buffers(), strict=True))
    with evaluating(nets), torch.no_grad():
        assert torch.equal(logits, nets.target(x))


def test_exactly_one_optimiser_step_a_batch(solo):
    task, nets, step = solo
    batch = task.batch()
    with pytest.raises(BudgetError, match="without step"), step.batch(8):
        step.backward(ce_sum(nets.target(batch.x), batch.y))
    with step.batch(8):
        step.backward(ce_sum(nets.target(batch.x), batch.y))
        step.advance()
        with pytest.raises(BudgetError, match="twice"):
            step.advance()


def test_a_loss_must_be_a_scalar_and_its_first_bad_batch_is_remembered(solo):
    _task, nets, step = solo
    weight = next(nets.parameters())
    with pytest.raises(BudgetError, match="scalar"):
        step.backward(weight * 2)
    for number in range(4):
        with step.batch(8):
            step.backward((weight * (float("nan") if number == 2 else 1.0)).sum())
            step._optimiser.zero_grad()
            step.advance()
    assert step.first_bad_batch() == 2
    step.start_epoch(0.5)
    assert step.first_bad_batch() is None
    assert step.progress == 0.5


def test_means_are_over_the_epoch(solo):
    _, _, step = solo
    for value in (1.0, 2.0, 6.0):
        step.log(kl=torch.tensor(value), ce=value * 2)
    assert step.means() == {"kl": 3.0, "ce": 6.0}


def test_radius_and_step_may_be_each_images_own_and_never_exceed_the_ceiling(solo):
    task, nets, step = solo
    batch = task.batch()
    eps = torch.linspace(0, 1, 8, dtype=torch.float64)
    sizes = torch.full((8,), 0.4, dtype=torch.float64)
    x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y), eps=eps, step=sizes, start="clean")
    moved = (x_adv - batch.x).flatten(1).abs().amax(dim=1)
    assert torch.all(moved <= 0.1 * eps + 1e-12)
    assert torch.all(moved[1:] > 0)
    alone = [
        step.craft(x, lambda x, y=y: ce_sum(nets.target(x), y), eps=float(e), step=0.4, start="clean")
        for x, y, e in zip(batch.x.split(1), batch.y.split(1), eps, strict=True)
    ]
    torch.testing.assert_close(x_adv, torch.cat(alone), rtol=0, atol=1e-15)
    assert (step.inner_steps, step.ceiling) == (3, 1.0)
    for too_much in (1.01, 2 * eps):
        with pytest.raises(BudgetError, match="radii, the protocol grants 0 to 1"):
            step.craft(batch.x, lambda x: nets.target(x).sum(), eps=too_much)


def test_features_are_the_heads_input_of_one_counted_forward(solo):
    task, nets, step = solo
    x = task.batch().x
    task.ledger.reset()
    features, logits = step.features(nets.target, x)
    assert task.ledger.passes.forward == 8
    assert torch.equal(nets.target.head(features), logits)
    assert torch.equal(nets.eval().target(x), nets.target(x)), "no hook stays behind"


def test_weights_are_blended_once_a_batch_by_who_declares_it(tiny_task, make_step):
    task = tiny_task()
    nets = OneNetwork(task.network())
    other = task.network()
    card = Card(name="x", label="x", title="", authors="", venue="", year=2025, url="", key="", family="averaging")
    with pytest.raises(BudgetError, match="blends=True"):
        make_step(nets, task, card=card).blend(nets.target, other)
    step = make_step(nets, task, card=dataclasses.replace(card, blends=True))
    before = [value.clone() for value in nets.target.parameters()]
    step.blend(nets.target, other, keep=0.25)
    for value, old, new in zip(nets.target.parameters(), before, other.parameters(), strict=True):
        torch.testing.assert_close(value, 0.25 * old + 0.75 * new)
    with pytest.raises(BudgetError, match="twice for one network in a batch"):
        step.blend(nets.target, other)
    with step.batch(8):
        step.advance()
    step.blend(nets.target, other)
    assert torch.equal(nets.target[0].weight, other[0].weight)


def test_a_backward_from_features_counts_once_with_or_without_logits(solo):
    task, nets, step = solo
    for part in (lambda f, z: f.sum(), lambda f, z: z.sum(), lambda f, z: f.sum() + z.sum()):
        task.ledger.reset()
        step.craft(task.batch().x, lambda x, part=part: part(*step.features(nets.target, x)), steps=1)
        assert task.ledger.passes.model_dump() == {"forward": 8, "input_gradient": 8, "weight_gradient": 0}
