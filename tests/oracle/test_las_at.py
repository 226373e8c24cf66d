"""LAS-AT against its release's rules in float64: drawn strategies, the reward, who learns when."""

import copy
import math

import pytest
import torch

from advbench.methods.las_at import LASAT


def smoothed(y):
    soft = torch.full((len(y), 5), 0.3 / 4, dtype=torch.float64)
    soft[torch.arange(len(y)), y] = 0.7
    return soft


def test_each_image_is_attacked_by_its_own_strategy(stage):
    s = stage(LASAT(), steps=10)
    actions = [
        torch.tensor(column) for column in ([0, 1, 2, 3, 4, 5, 9, 11], [0, 1, 2, 3, 4, 5, 6, 10], [0, 1, 2, 3] * 2)
    ]
    x_adv = s.method.crafted(s.nets, s.batch, actions, s.step)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(s.batch.x.shape, generator=generator, dtype=torch.float64)
    net = s.twin.eval().target
    for i, (radius, steps, size) in enumerate(zip(*(action.tolist() for action in actions), strict=True)):
        x, y = s.batch.x[i : i + 1], s.batch.y[i : i + 1]
        eps = 0.1 * min((3 + radius) / 8, 1.0)
        now = torch.clamp(x + eps * (2 * noise[i : i + 1] - 1), 0, 1)
        for _ in range(min(3 + steps, 10)):
            now = now.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(net(now), y), now)
            now = torch.clamp(now + 0.1 * (1 + size) / 8 * gradient.sign(), 0, 1)
            now = torch.minimum(torch.maximum(now, x - eps), x + eps)
        torch.testing.assert_close(x_adv[i : i + 1], now.detach(), rtol=0, atol=1e-12)


def test_actions_are_drawn_by_the_policy_and_repeat_with_the_seed(stage):
    s = stage(LASAT())
    logits = torch.zeros(4000, 27, dtype=torch.float64)
    logits[:, 0], logits[:, 12], logits[:, 23] = math.log(11), math.log(10), math.log(3)
    s.step.start_epoch(0.0)
    actions, log_probability = s.method.drawn(logits, s.step)
    s.step.start_epoch(0.0)
    again, _ = s.method.drawn(logits, s.step)
    assert all(torch.equal(a, b) for a, b in zip(actions, again, strict=True))
    assert [int(a.max()) for a in actions] == [11, 10, 3]
    assert all(0.45 < float((a == 0).double().mean()) < 0.55 for a in actions)
    half = [torch.where(a == 0, math.log(0.5), math.log(0.5 / int(a.max()))).mean() for a in actions]
    due = float(sum(half))
    assert float(log_probability) == pytest.approx(due)


def test_the_reward_is_loss_now_and_accuracies_one_step_later(stage, formulas):
    s = stage(LASAT(ahead=0.3))
    x_adv = (s.batch.x + 0.05).clamp(0, 1)
    x_later = []
    original = s.step.craft
    s.step.craft = lambda x, objective, **options: x_later.append(original(x, objective, **options)) or x_later[-1]
    reward = s.method.reward(s.nets, s.batch, x_adv, smoothed(s.batch.y), s.step)
    now = formulas.ce(copy.deepcopy(s.twin.target).eval()(x_adv), s.batch.y).mean().clamp(0, 10)
    ahead = copy.deepcopy(s.twin.target).train()
    formulas.ce(ahead(x_adv), smoothed(s.batch.y)).mean().backward()
    with torch.no_grad():
        for parameter in ahead.parameters():
            parameter.sub_(0.3 * parameter.grad)
    ahead.eval()
    robust, clean = ((ahead(x).argmax(1) == s.batch.y).double().mean() for x in (x_later[0], s.batch.x))
    torch.testing.assert_close(reward, (now + 4 * robust + 2 * clean).detach())
    s.assert_same()


def test_the_strategy_learns_every_interval_and_the_target_always(stage, formulas):
    s = stage(LASAT(interval=2), steps=10)
    costs, moved = [], []
    for number in range(3):
        s.batch = s.task.batch(seed=number)
        before = [copy.deepcopy(net.state_dict()) for net in (s.nets.target, s.nets.strategy)]
        costs.append(s.update())
        after = [net.state_dict() for net in (s.nets.target, s.nets.strategy)]
        moved.append([not torch.equal(a["0.weight"], b["0.weight"]) for a, b in zip(before, after, strict=True)])
    assert costs == [52, 24, 52]
    assert moved == [[True, True], [True, False], [True, True]]
    assert s.method.deployed(s.nets) is s.nets.target
    assert s.method.rates() == {"strategy": 1e-3, "policy": 1e-3}


def test_the_targets_gradient_is_that_of_smoothed_cross_entropy(stage, formulas):
    s = stage(LASAT())
    s.loss()
    x_adv = next(x for name, x in s.forwards if name == "target")
    formulas.ce(s.twin.target(x_adv), smoothed(s.batch.y)).mean().backward()
    for ours, theirs in zip(s.nets.target.parameters(), s.twin.target.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "value"), [("label", 0.0), ("interval", 0), ("robust", -1.0), ("rate", float("inf"))])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        LASAT(**{name: value})
