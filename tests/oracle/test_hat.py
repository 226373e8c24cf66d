"""HAT against its formula in float64: helper examples beyond the ball, labelled by a frozen helper."""

import pytest
import torch

from advbench.methods.hat import HAT


def test_loss_and_gradients_are_the_formula(stage, formulas):
    s = stage(HAT(beta=1.5, gamma=0.7, h=3.0))
    loss, seen = s.loss()
    net, helper = s.twin.target, s.twin.teacher.net.eval()
    x_help = s.batch.x + 3.0 * (seen.x_adv - s.batch.x)
    assert x_help.min() < 0
    assert x_help.max() > 1
    y_help = helper(seen.x_adv).argmax(dim=1)
    assert not torch.equal(y_help, s.batch.y)
    assert not torch.equal(y_help, helper.train()(seen.x_adv).argmax(dim=1)), "train mode would label otherwise"
    z, z_adv, z_help = net(s.batch.x), net(seen.x_adv), net(x_help)
    reference = (
        formulas.ce(z, s.batch.y).mean() + 1.5 * formulas.kl(z, z_adv).mean() + 0.7 * formulas.ce(z_help, y_help).mean()
    )
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    for ours, theirs in zip(s.nets.target.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)
    for ours, theirs in zip(s.nets.target.buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(parameter.grad is None for parameter in s.nets.teacher.parameters())


def test_the_helper_is_left_as_it_was(stage):
    s = stage(HAT())
    s.update()
    for ours, theirs in zip(s.nets.teacher.state_dict().values(), s.twin.teacher.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_attack_is_trades_on_the_target(stage, formulas):
    s = stage(HAT())
    _, seen = s.loss()
    net = s.twin.eval().target
    clean = net(s.batch.x).detach()
    s.assert_attack(seen, lambda x: formulas.kl(clean, net(x)).sum(), "gaussian")


def test_a_step_costs_31_forwards_clean_adversarial_helper(stage):
    s = stage(HAT(), steps=10)
    seen = s.watch()
    s.update()
    assert s.order() == ["target(x)", "target(x_adv)", "target(x_adv)"]
    torch.testing.assert_close(s.forwards[1][1], seen.x_adv, rtol=0, atol=0)
    torch.testing.assert_close(s.forwards[2][1], s.batch.x + 2.0 * (seen.x_adv - s.batch.x), rtol=0, atol=0)
    assert stage(HAT(), steps=10).update() == 31


def test_it_needs_a_standard_helper():
    assert dict(HAT.requires) == {"helper": "standard"}


@pytest.mark.parametrize(("name", "value"), [("beta", -1.0), ("gamma", float("inf")), ("h", float("nan"))])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*\b{name}\b[^\n]*$"):
        HAT(**{name: value})
