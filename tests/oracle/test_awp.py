"""AT-AWP and TRADES-AWP against the released procedure: a proxy, one SGD step of it, its difference rescaled."""

import copy

import pytest
import torch
from torch import nn

from advbench.methods.awp import ATAWP, TRADESAWP


def released_update(target, optimiser, loss, gamma):
    """One update as in the release; `loss(net)` is what is descended and, for the proxy, ascended."""
    offsets = {}
    if gamma:
        proxy = copy.deepcopy(target).train()
        ascent = torch.optim.SGD(proxy.parameters(), lr=0.01)
        (-loss(proxy)).backward()
        ascent.step()
        moved = dict(proxy.named_parameters())
        for name, module in target.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                w = module.weight
                difference = (moved[f"{name}.weight"] - w).detach()
                offsets[w] = gamma * w.detach().norm() / (difference.norm() + 1e-20) * difference
        assert len(offsets) == 2
    with torch.no_grad():
        for w, v in offsets.items():
            w.add_(v)
    loss(target).backward()
    optimiser.step()
    optimiser.zero_grad()
    with torch.no_grad():
        for w, v in offsets.items():
            w.sub_(v)


def reference_loss(formulas, method, batch, x_adv):
    def at(net):
        return formulas.ce(net(x_adv), batch.y).mean()

    def trades(net):
        z_adv, z = net(x_adv), net(batch.x)
        return formulas.ce(z, batch.y).mean() + 6.0 * formulas.kl(z, z_adv).mean()

    return trades if isinstance(method, TRADESAWP) else at


@pytest.mark.parametrize(
    ("method", "switches_at"),
    [(ATAWP(), 0.0), (TRADESAWP(), 9 / 200), (ATAWP(gamma=0.05, warmup=0.5), 0.5), (TRADESAWP(gamma=0.05), 9 / 200)],
)
def test_updates_are_those_of_the_released_proxy_from_the_end_of_the_warm_up_on(method, switches_at, stage, formulas):
    s = stage(method)
    seen = s.watch()
    optimiser = torch.optim.SGD(s.twin.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for number, progress in enumerate((0.0, 8 / 200, 9 / 200, 0.5)):
        s.step.start_epoch(progress)
        s.batch = s.task.batch(seed=number)
        s.update()
        loss = reference_loss(formulas, method, s.batch, seen.x_adv)
        released_update(s.twin.target, optimiser, loss, method.gamma if progress >= switches_at else None)
        s.assert_same(rtol=1e-8, atol=1e-11)


def test_the_perturbation_changes_the_update(stage):
    """So that the comparison above is not one of two unperturbed updates."""
    with_it, without = stage(ATAWP()), stage(ATAWP(warmup=1.0))
    with_it.update()
    without.update()
    assert (with_it.nets.target[0].weight - without.nets.target[0].weight).abs().max() > 1e-4


@pytest.mark.parametrize(("method", "start"), [(ATAWP(), "uniform"), (TRADESAWP(), "gaussian")])
def test_the_attack_is_on_the_unperturbed_target(method, start, stage, formulas):
    s = stage(method, progress=0.9)
    seen = s.watch()
    s.update()
    net = s.twin.eval().target
    clean = net(s.batch.x).detach()

    def objective(x):
        each = formulas.ce(net(x), s.batch.y) if start == "uniform" else formulas.kl(clean, net(x))
        return each.sum()

    s.assert_attack(seen, objective, start)


@pytest.mark.parametrize("method", [ATAWP(), TRADESAWP(beta=2.0)])
def test_loss_alone_is_unperturbed(method, stage, formulas):
    s = stage(method, progress=0.9)
    loss, seen = s.loss()
    z_adv = s.twin.target(seen.x_adv)
    reference = formulas.ce(z_adv, s.batch.y).mean()
    if isinstance(method, TRADESAWP):
        z = s.twin.target(s.batch.x)
        reference = formulas.ce(z, s.batch.y).mean() + 2.0 * formulas.kl(z, z_adv).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_release_bn_adds_a_clean_forward_after_the_perturbation_was_taken_back(stage, make_step):
    s = stage(ATAWP(release_bn=True))
    plain = type(s)(ATAWP(), s.task, make_step)
    plain.nets.load_state_dict(s.nets.state_dict())
    for each in (plain, s):
        each.update()
    assert s.order() == [*plain.order(), "target(x)"]
    with torch.no_grad():
        plain.nets.target(plain.batch.x)
    for ours, theirs in zip(s.nets.state_dict().values(), plain.nets.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("method", "progress", "cost"),
    [(ATAWP(), 0.0, 26), (ATAWP(), 0.5, 26), (TRADESAWP(), 8 / 200, 27), (TRADESAWP(), 9 / 200, 33)],
)
def test_passes_of_a_step(method, progress, cost, stage):
    assert stage(method, steps=10, progress=progress).update() == cost


def test_proxy_forwards_and_the_target_s_come_in_the_released_order(stage):
    s = stage(TRADESAWP(), progress=0.5)
    s.update()
    assert s.order() == ["target(x_adv)", "target(x)"] * 2
    s = stage(ATAWP())
    s.update()
    assert s.order() == ["target(x_adv)"] * 2


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (ATAWP, "gamma", 0.0),
        (ATAWP, "gamma", float("nan")),
        (TRADESAWP, "gamma", float("inf")),
        (ATAWP, "warmup", -0.1),
        (TRADESAWP, "warmup", 1.1),
        (TRADESAWP, "beta", -1.0),
    ],
)
def test_impossible_values_are_refused_in_one_line(cls, name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        cls(**{name: value})
