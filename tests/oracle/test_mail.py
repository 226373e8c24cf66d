"""MAIL-TRADES: the attack of TRADES, and margins that weigh images from the first drop on, against float64 formulas."""

import math

import pytest
import torch

from advbench.methods.mail import MAILTRADES


@pytest.mark.parametrize("progress", [0.25, 0.5])
def test_loss_attack_and_gradients_are_the_formula_s(stage, formulas, progress):
    s = stage(MAILTRADES())
    s.step.start_epoch(progress)
    loss, seen = s.loss()
    s.twin.eval()
    clean = s.twin.target(s.batch.x).detach()
    s.assert_attack(seen, lambda x: formulas.kl(clean, s.twin.target(x)).sum(), "gaussian")
    s.twin.train()
    z, z_adv = s.twin.target(s.batch.x), s.twin.target(seen.x_adv)
    weights = []
    for p, y in zip(formulas.softmax(z_adv).tolist(), s.batch.y.tolist(), strict=True):
        margin = max(value for label, value in enumerate(p) if label != y) - p[y]
        weights.append(3 / (1 + math.exp(-(margin - 1.5))) if progress >= 0.5 else 1.0)
    apart = torch.tensor(weights, dtype=torch.float64) * formulas.kl(z, z_adv)
    reference = formulas.ce(z, s.batch.y).mean() + 5 * apart.mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_a_step_costs_what_trades_costs(stage):
    s = stage(MAILTRADES(), steps=10)
    assert s.update() == 27
    assert s.order() == ["target(x)", "target(x_adv)"]


@pytest.mark.parametrize(("name", "value"), [("beta", -1.0), ("slope", math.inf), ("bias", math.nan), ("scale", 0.0)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        MAILTRADES(**{name: value})
