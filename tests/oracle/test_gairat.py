"""GAIRAT against a reference that attacks and counts by itself, in float64."""

import math

import pytest
import torch

from advbench.benchmark.method import Batch
from advbench.methods.gairat import GAIRAT


@pytest.fixture
def mixed(stage):
    """A stage at ten inner steps whose images fall at different steps, two of them wrong from the start."""

    def make(method, **options):
        s = stage(method, steps=10, **options)
        with torch.no_grad():
            right = s.twin.target.eval()(s.batch.x).argmax(dim=1)
        s.batch = Batch(s.batch.x, torch.cat([right[:6], (right[6:] + 1) % 5]), s.batch.index)
        s.twin.train()
        return s

    return make


def attack_and_count(s, formulas):
    """Attack the twin; return x' and, for each image, how many of x'_0 … x'_9 were still right."""
    net = s.twin.target.eval()
    kappa = [0] * len(s.batch.y)

    def objective(x):
        z = net(x)
        for i, row in enumerate(z.tolist()):
            kappa[i] += row.index(max(row)) == s.batch.y[i]
        return formulas.ce(z, s.batch.y).sum()

    x_adv = s.ascend(objective, "uniform", steps=10)
    net.train()
    return x_adv, kappa


@pytest.mark.parametrize("lam", [-1.0, 0.5])
def test_loss_and_gradients_weigh_each_image_by_how_soon_it_fell(lam, mixed, formulas):
    s = mixed(GAIRAT(lam=lam), progress=59 / 120)
    loss = s.method.loss(s.nets, s.batch, s.step)
    loss.backward()
    x_adv, kappa = attack_and_count(s, formulas)
    assert len(set(kappa)) >= 3, kappa
    torch.testing.assert_close(s.forwards[0][1], x_adv, rtol=0, atol=1e-12)
    weights = [(1 + math.tanh(lam + (5 - k) * 5 / 5)) / 2 for k in kappa]
    weights = torch.tensor([w * len(weights) / sum(weights) for w in weights], dtype=torch.float64)
    assert weights.max() > 2 * weights.min()
    reference = (weights * formulas.ce(s.twin.target(x_adv), s.batch.y)).mean()
    reference.backward()
    torch.testing.assert_close(loss.detach(), reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_weights_are_equal_until_half_of_training(mixed, formulas):
    s = mixed(GAIRAT(), progress=58 / 120)
    loss = s.method.loss(s.nets, s.batch, s.step)
    loss.backward()
    x_adv, _ = attack_and_count(s, formulas)
    reference = formulas.ce(s.twin.target(x_adv), s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss.detach(), reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_the_attack_ascends_cross_entropy_from_a_uniform_start(stage, formulas):
    s = stage(GAIRAT())
    _, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "uniform")


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_counting_costs_no_pass(progress, stage):
    s = stage(GAIRAT(), steps=10, progress=progress)
    assert s.update() == 23
    assert s.order() == ["target(x_adv)"]


@pytest.mark.parametrize(("name", "value"), [("lam", float("nan")), ("lam", float("inf")), ("start", -0.5)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        GAIRAT(**{name: value})
