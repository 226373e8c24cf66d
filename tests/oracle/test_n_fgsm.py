"""N-FGSM against its single step, written out in float64: strong noise, no projection onto the ball."""

import pytest
import torch

from advbench.methods.n_fgsm import NFGSM


@pytest.mark.parametrize(("noise", "step_size"), [(2.0, 1.0), (0.5, 0.75)])
def test_loss_gradients_and_the_single_step_are_the_formula_s(noise, step_size, stage, formulas):
    s = stage(NFGSM(noise=noise, step_size=step_size))
    loss = s.method.loss(s.nets, s.batch, s.step)
    loss.backward()
    net, x = s.twin.target.eval(), s.batch.x
    eta = (2 * torch.rand(x.shape, generator=s.generator, dtype=x.dtype) - 1) * noise * 0.1
    start = torch.clamp(x + eta, 0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(formulas.ce(net(start), s.batch.y).sum(), start)
    x_adv = torch.clamp(start.detach() + step_size * 0.1 * torch.sign(gradient), 0, 1)
    torch.testing.assert_close(s.forwards[0][1], x_adv, rtol=0, atol=1e-12)
    assert 0.1 + 1e-6 < (x_adv - x).abs().max() <= (noise + step_size) * 0.1
    net.train()
    reference = formulas.ce(net(x_adv), s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss.detach(), reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_a_step_costs_5_forwards_whatever_the_protocol_s_steps(stage):
    s = stage(NFGSM(), steps=10)
    assert s.update() == 5
    assert s.order() == ["target(x_adv)"]
    assert "own inner step" in NFGSM.card.notes


@pytest.mark.parametrize(("name", "value"), [("noise", -1.0), ("noise", float("inf")), ("step_size", 0.0)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        NFGSM(**{name: value})
