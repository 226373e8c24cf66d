"""LBGAT against its formula written out in float64; the guide is pulled by the target's logits under attack."""

import pytest
import torch

from advbench.methods.lbgat import LBGAT


@pytest.mark.parametrize("beta", [6.0, 0.0])
def test_loss_gradients_and_statistics_of_both_networks_are_the_formula_s(beta, stage, formulas):
    s = stage(LBGAT(beta=beta))
    loss, seen = s.loss()
    z_adv, z, z_g = s.twin.target(seen.x_adv), s.twin.target(s.batch.x), s.twin.guide(s.batch.x)
    squared = ((z_adv - z_g) ** 2).sum() / (len(z_g) * 5)
    reference = formulas.ce(z_g, s.batch.y).mean() + squared + beta * formulas.kl(z, z_adv).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_the_guide_gets_gradient_from_the_distance(stage, formulas):
    s = stage(LBGAT())
    _, seen = s.loss()
    z_adv, z_g = s.twin.target(seen.x_adv).detach(), s.twin.guide(s.batch.x)
    parameters = list(s.twin.guide.parameters())
    alone = torch.autograd.grad(formulas.ce(z_g, s.batch.y).mean(), parameters, retain_graph=True)
    pulled = torch.autograd.grad(((z_adv - z_g) ** 2).mean(), parameters)
    assert pulled[0].norm() > 0.01 * alone[0].norm()
    for ours, first, second in zip(s.nets.guide.parameters(), alone, pulled, strict=True):
        torch.testing.assert_close(ours.grad, first + second)


def test_the_attack_is_that_of_trades_on_the_target_alone(stage, formulas):
    s = stage(LBGAT())
    _, seen = s.loss()
    net = s.twin.target.eval()
    s.assert_attack(seen, lambda x: formulas.kl(net(s.batch.x).detach(), net(x)).sum(), "gaussian")


def test_a_step_costs_30_forwards_in_the_released_order(stage):
    s = stage(LBGAT(), steps=10)
    assert s.update() == 30
    assert s.order() == ["target(x_adv)", "target(x)", "guide(x)"]
    assert s.method.deployed(s.nets) is s.nets.target


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
def test_an_impossible_weight_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be 0 or more"):
        LBGAT(beta=beta)
