"""SCORE: squared errors of probabilities inside and outside the attack, against float64 formulas."""

import math

import pytest
import torch

from advbench.methods.score import SCORE


def apart(formulas, z, other):
    """Σ_c (p_c − q_c)² of each image."""
    difference = formulas.softmax(z) - formulas.softmax(other)
    return (difference * difference).sum(dim=1)


def test_loss_attack_and_gradients_are_squared_errors(stage, formulas):
    s = stage(SCORE())
    loss, seen = s.loss()
    s.twin.eval()
    clean = s.twin.target(s.batch.x).detach()
    s.assert_attack(seen, lambda x: apart(formulas, s.twin.target(x), clean).sum(), "uniform")
    s.twin.train()
    z_adv, z = s.twin.target(seen.x_adv), s.twin.target(s.batch.x)
    error = formulas.softmax(z) - torch.eye(5, dtype=z.dtype)[s.batch.y]
    reference = (error * error).sum(dim=1).mean() + 4 * apart(formulas, z_adv, z).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_a_step_costs_what_trades_costs(stage):
    s = stage(SCORE(), steps=10)
    assert s.update() == 27
    assert s.order() == ["target(x_adv)", "target(x)"]


@pytest.mark.parametrize("beta", [-1.0, math.inf, math.nan])
def test_an_impossible_beta_is_refused_in_one_line(beta):
    with pytest.raises(ValueError, match=r"^beta must be 0 or more and finite$"):
        SCORE(beta=beta)
