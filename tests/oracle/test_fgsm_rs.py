"""FGSM-RS against its single step, written out in float64."""

import pytest
import torch

from advbench.methods.fgsm_rs import FGSMRS


@pytest.mark.parametrize("step_size", [1.25, 0.5])
def test_loss_gradients_and_the_single_step_are_the_formula_s(step_size, stage, formulas):
    s = stage(FGSMRS(step_size=step_size))
    loss = s.method.loss(s.nets, s.batch, s.step)
    loss.backward()
    net, x = s.twin.target.eval(), s.batch.x
    noise = torch.rand(x.shape, generator=s.generator, dtype=x.dtype)
    start = torch.clamp(x + (2 * noise - 1) * 0.1, 0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(formulas.ce(net(start), s.batch.y).sum(), start)
    x_adv = start.detach() + step_size * 0.1 * torch.sign(gradient)
    x_adv = torch.minimum(torch.maximum(x_adv, x - 0.1), x + 0.1).clamp(0, 1)
    torch.testing.assert_close(s.forwards[0][1], x_adv, rtol=0, atol=1e-12)
    net.train()
    reference = formulas.ce(net(x_adv), s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss.detach(), reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_a_step_costs_5_forwards_whatever_the_protocol_s_steps(stage):
    s = stage(FGSMRS(), steps=10)
    assert s.update() == 5
    assert s.order() == ["target(x_adv)"]
    assert "own inner step" in FGSMRS.card.notes


@pytest.mark.parametrize("step_size", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_step_size_is_refused_in_one_line(step_size):
    with pytest.raises(ValueError, match=r"^step_size must be positive and finite$"):
        FGSMRS(step_size=step_size)
