"""OA-AT against its release's rules in float64: the growing ball, and the turns of the last quarter."""

import copy

import pytest
import torch

from advbench.methods.oa_at import OAAT


def asked(s):
    """Note what the method asks of craft."""
    options, original = [], s.step.craft
    s.step.craft = lambda x, objective, **o: options.append(o) or original(x, objective, **o)
    return options


@pytest.mark.parametrize(
    ("progress", "end", "eps", "step", "steps", "cost"),
    [(0.0, 0.05, 0.25, 0.125, 5, 16), (0.1, 0.15, 0.25, 0.125, 5, 22), (0.5, 0.55, 0.55, 0.1375, 10, 32)],
)
def test_before_the_last_quarter_the_ball_grows(progress, end, eps, step, steps, cost, stage):  # noqa: PLR0917 (a row)
    s = stage(OAAT(), steps=10)
    s.step.start_epoch(progress, 0, end)
    options = asked(s)
    assert s.update() == cost
    (only,) = options
    assert [only["eps"], only["step"], only["steps"]] == pytest.approx([eps, step, steps])


@pytest.mark.parametrize("first", [0, 1])
def test_in_the_last_quarter_two_attacks_take_turns(first, stage, formulas):
    s = stage(OAAT(mix_radius=1.0, warmup=1.0), steps=10)
    s.step.start_epoch(0.8, 0, 0.875)  # u = 1/2
    s.nets.batches.fill_(first)
    late = 0.5
    net, average = copy.deepcopy(s.twin.target).eval(), copy.deepcopy(s.twin.average).eval()

    def distance(x):
        features = [average[:-1](image) for image in (x, s.batch.x)]
        ours, theirs = (f / f.norm(dim=1, keepdim=True) for f in features)
        return (ours - theirs).norm(dim=1)

    seen = s.watch()
    x_adv, x_mix = s.method.crafted(s.nets, s.batch, s.step, late)
    probe = (s.batch.x + 0.03).requires_grad_()
    value = formulas.ce(net(probe), s.batch.y).sum()
    if first == 1:  # the second batch
        value = value - 0.5 * distance(probe).sum()
    torch.testing.assert_close(seen.value, value.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(seen.gradient, torch.autograd.grad(value, probe)[0], rtol=1e-8, atol=1e-12)
    assert (x_mix is None) == (first == 1)
    loss = s.method.outer(s.nets, s.batch, x_adv, x_mix, late)
    net = s.twin.target
    if x_mix is not None:
        assert torch.equal(x_mix, seen.x_adv)
        bounded = torch.minimum(torch.maximum(x_mix, s.batch.x - 0.0875), s.batch.x + 0.0875)
        torch.testing.assert_close(x_adv, bounded)
        z_mix = net(x_mix)
    z_adv, z = net(x_adv), net(s.batch.x)
    if x_mix is None:
        robust = formulas.kl(z, z_adv).mean()
    else:
        q = 0.9 * formulas.softmax(z) + 0.1 * formulas.softmax(z_mix)
        robust = (q * (q.log() - formulas.softmax(z_adv).log())).sum(dim=1).mean()
    expected = formulas.ce(z, s.batch.y).mean() + 2.25 * robust
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


def test_passes_of_the_last_quarter_and_the_average(stage):
    s = stage(OAAT(), steps=10)
    s.step.start_epoch(0.9, 0, 0.95)
    costs = []
    for decay in (0.0, 0.995):
        before = copy.deepcopy(s.nets.average[0].weight)
        costs.append(s.update())
        s.method.after_step(s.nets, s.step)
        due = decay * before + (1 - decay) * s.nets.target[0].weight
        torch.testing.assert_close(s.method.deployed(s.nets)[0].weight, due)
    assert costs == [35, 53]


@pytest.mark.parametrize(("name", "value"), [("beta", -1.0), ("mix", 2.0), ("decay", 1.0), ("lpips", float("nan"))])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        OAAT(**{name: value})
