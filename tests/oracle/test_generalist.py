"""Generalist against its release's rules in float64: two learners, three averages, and when the learners are reset."""

import copy

import pytest
import torch

from advbench.methods.generalist import Generalist


def test_each_learner_has_its_own_loss_from_the_same_start(stage, formulas):
    s = stage(Generalist())
    for net in (s.nets, s.twin):
        net.natural.load_state_dict(net.target.state_dict())
    loss, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "uniform")
    s.twin.train()
    reference = formulas.ce(s.twin.target(seen.x_adv), s.batch.y).mean()
    reference = reference + formulas.ce(s.twin.natural(s.batch.x), s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()
    fresh = s.method.build(s.task)
    assert all(torch.equal(a, b) for a, b in zip(fresh.target.parameters(), fresh.natural.parameters(), strict=True))


def test_averages_are_mixed_as_released_and_learners_reset_every_fifth_epoch(stage):
    """Epochs 12, 15, 16 of 20 counted from 1: b is 1 up to two thirds, then falls to 0.4; 15 is past 75/120."""
    s = stage(Generalist())
    robust, natural, mixed = (
        copy.deepcopy(net.state_dict()) for net in (s.nets.robust_average, s.nets.natural_average, s.nets.mixed)
    )
    for t, epoch in enumerate((12, 15, 16)):
        s.step.start_epoch((epoch - 1) / 20, epoch - 1, epoch / 20)
        s.update()
        weights = [copy.deepcopy(net.state_dict()) for net in (s.nets.target, s.nets.natural)]
        with torch.no_grad():
            s.method.after_step(s.nets, s.step)
        d = (t + 1) / (t + 10)
        b = 1.0 if epoch / 20 <= 2 / 3 else 1 - 0.6 * (epoch / 20 - 2 / 3) * 3
        for name in mixed:
            if mixed[name].is_floating_point():
                robust[name] = d * robust[name] + (1 - d) * weights[0][name]
                natural[name] = d * natural[name] + (1 - d) * weights[1][name]
                mixed[name] = d * mixed[name] + (1 - d) * (b * robust[name] + (1 - b) * natural[name])
                torch.testing.assert_close(s.nets.mixed.state_dict()[name], mixed[name], rtol=1e-10, atol=1e-13)
                for net, before in zip((s.nets.target, s.nets.natural), weights, strict=True):
                    due = mixed[name] if epoch == 15 else before[name]
                    torch.testing.assert_close(net.state_dict()[name], due, rtol=1e-10, atol=1e-13)
    assert s.method.deployed(s.nets) is s.nets.mixed


def test_a_step_costs_26_forwards(stage):
    s = stage(Generalist(), steps=10)
    assert s.update() == 26
    assert s.order() == ["target(x_adv)", "natural(x)"]


@pytest.mark.parametrize(("name", "value"), [("decay", 1.0), ("last", 2.0), ("start", -0.1), ("every", 0)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        Generalist(**{name: value})
