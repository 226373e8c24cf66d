"""ReBAT: cross-entropy, the pull towards the average, and when both begin, against float64 formulas."""

import math

import pytest
import torch

from advbench.methods.rebat import ReBAT


@pytest.mark.parametrize(("progress", "beta"), [(0.0, 0.0), (0.52, 0.0), (0.525, 1.0), (0.9, 1.0)])
def test_loss_attack_and_gradients_before_and_after_the_average_begins(stage, formulas, progress, beta):
    s = stage(ReBAT())
    for nets in (s.nets, s.twin):
        for weight in nets.average.parameters():
            weight.data.mul_(1.2)
    s.step.start_epoch(progress)
    loss, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "uniform")
    guide = s.twin.average(seen.x_adv).detach()
    s.twin.train()
    z = s.twin.target(seen.x_adv)
    reference = formulas.ce(z, s.batch.y).mean() + beta * formulas.kl(guide, z).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_the_average_is_the_network_until_it_begins_and_then_decays(stage):
    s = stage(ReBAT(decay=0.9), steps=10)
    for progress, keep, passes in ((0.3, 0.0, 23), (0.6, 0.9, 24)):
        s.step.start_epoch(progress)
        before = s.nets.average[0].weight.clone()
        assert s.update() == passes
        s.method.after_step(s.nets, s.step)
        expected = keep * before + (1 - keep) * s.nets.target[0].weight.detach()
        torch.testing.assert_close(s.nets.average[0].weight, expected, rtol=1e-12, atol=1e-14)
    assert s.method.deployed(s.nets) is s.nets.average
    assert s.order() == ["target(x_adv)"] * 2
    assert not any(parameter.requires_grad for parameter in s.nets.average.parameters())


@pytest.mark.parametrize(("name", "value"), [("beta", math.inf), ("decay", 1.5), ("delay", -0.1)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        ReBAT(**{name: value})
