"""DYNAT and DYNAT-AWP against their formulas in float64: dynamic labels, who gets which gradient, the perturbation."""

import copy

import pytest
import torch

from advbench.methods.dynat import DYNAT, DYNATAWP


def decisions(s):
    """The guide's train-mode decisions on the batch, which must be neither its eval-mode ones nor the truth."""
    with torch.no_grad():
        labels = copy.deepcopy(s.twin.guide).train()(s.batch.x).argmax(dim=1)
        evaluated = copy.deepcopy(s.twin.guide).eval()(s.batch.x).argmax(dim=1)
    assert not torch.equal(labels, evaluated)
    assert not torch.equal(labels, s.batch.y)
    return labels


@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_loss_gradients_and_statistics_of_both_networks_are_the_formula_s(extra, beta, stage, formulas):
    s = stage(DYNAT(beta=beta, extra_clean_forward=extra))
    labels = decisions(s)
    loss, seen = s.loss()
    z_g, z_adv = s.twin.guide(s.batch.x), s.twin.target(seen.x_adv)
    if extra:
        s.twin.target(s.batch.x)
    guide, target = formulas.ce(z_g, s.batch.y).mean(), beta * formulas.ce(z_adv, labels).mean()
    torch.testing.assert_close(loss, (guide + target).detach(), rtol=1e-9, atol=0)
    # The label is a decision: each network has the gradient of its own term and of nothing else.
    for net, own in ((s.twin.guide, guide), (s.twin.target, target)):
        parameters = list(net.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(own, parameters), strict=True):
            parameter.grad = gradient
    s.assert_same()


@pytest.mark.parametrize("inner", ["dyn_ce", "trades_kl", "gt_ce"])
def test_the_attack_ascends_what_inner_says(inner, stage, formulas):
    s = stage(DYNAT(inner=inner))
    labels = decisions(s)
    _, seen = s.loss()
    net = s.twin.target.eval()
    objective = {
        "dyn_ce": lambda x: formulas.ce(net(x), labels).sum(),
        "trades_kl": lambda x: formulas.kl(net(s.batch.x).detach(), net(x)).sum(),
        "gt_ce": lambda x: formulas.ce(net(x), s.batch.y).sum(),
    }[inner]
    s.assert_attack(seen, objective, "gaussian")


@pytest.mark.parametrize(
    ("options", "cost"), [({}, 27), ({"extra_clean_forward": False}, 26), ({"inner": "trades_kl"}, 28)]
)
def test_a_step_costs_27_forwards_and_the_guide_is_forwarded_once(options, cost, stage):
    s = stage(DYNAT(**options), steps=10)
    assert s.update() == cost
    extra = ["target(x)"] if s.method.extra_clean_forward else []
    assert s.order() == ["guide(x)", "target(x_adv)", *extra]
    assert s.method.deployed(s.nets) is s.nets.target


def test_the_extra_clean_forward_keeps_no_graph(stage):
    s, kept = stage(DYNAT()), []
    s.nets.target.register_forward_hook(lambda module, inputs, z: kept.append(z.requires_grad and module.training))
    s.update()
    assert kept[-2:] == [True, False]


def test_a_guide_that_leads_learns_alone_before_the_target_is_attacked_and_moves(stage, formulas):
    s = stage(DYNAT(guide_lead=2))
    seen = s.watch()
    for epoch in range(3):
        s.step.start_epoch(epoch / 10, epoch)
        before = [parameter.clone() for parameter in s.nets.target.parameters()]
        s.update()
        moved = not all(torch.equal(old, new) for old, new in zip(before, s.nets.target.parameters(), strict=True))
        assert (moved, seen.calls) == (epoch == 2, int(epoch == 2))
    assert s.order()[:3] == ["guide(x)"] * 3


@pytest.mark.parametrize(("lead", "steps", "notes"), [(0, 132, 1), (0, 440, 0), (1, 132, 0)])
def test_a_training_too_short_for_an_untrained_guide_is_noted(lead, steps, notes):
    assert len(DYNAT(guide_lead=lead).notes(12, steps)) == notes
    assert all("132 steps" in note for note in DYNAT().notes(12, 132))


def awp_loss(formulas, nets, x_adv, batch, labels):
    z_adv, z, z_g = nets.target(x_adv), nets.target(batch.x), nets.guide(batch.x)
    guide, target = formulas.ce(z_g, batch.y).mean(), 0.2 * formulas.ce(z_adv, labels).mean()
    return guide + target + formulas.kl(z, z_adv).mean()


def test_awp_loss_and_gradients_at_unperturbed_weights(stage, formulas):
    s = stage(DYNATAWP())
    labels = decisions(s)
    loss, seen = s.loss()
    reference = awp_loss(formulas, s.twin, seen.x_adv, s.batch, labels)
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_awp_attack_is_that_of_trades(stage, formulas):
    s = stage(DYNATAWP())
    _, seen = s.loss()
    net = s.twin.target.eval()
    s.assert_attack(seen, lambda x: formulas.kl(net(s.batch.x).detach(), net(x)).sum(), "gaussian")


def perturbation(formulas, target, x_adv, batch, gamma):
    """As released: a proxy takes one SGD step up the TRADES loss with the ground truth; its way, rescaled by layer."""
    proxy = copy.deepcopy(target).train()
    optimiser = torch.optim.SGD(proxy.parameters(), lr=0.1)
    z_adv, z = proxy(x_adv), proxy(batch.x)
    optimiser.zero_grad()
    (-(formulas.ce(z, batch.y).mean() + 6 * formulas.kl(z, z_adv).mean())).backward()
    optimiser.step()
    moved = {}
    for (name, old), new in zip(target.named_parameters(), proxy.parameters(), strict=True):
        if old.dim() > 1:
            way = (new - old).detach()
            moved[name] = gamma * old.detach().norm() / (way.norm() + 1e-20) * way
    return moved


def test_awp_perturbs_from_its_warmup_on_and_takes_the_perturbation_back(stage, formulas):
    """Steps on both sides of the warm-up's end against the released procedure: proxy, perturb, step, restore."""
    s = stage(DYNATAWP(gamma=0.05), lr=0.05)
    nets = s.twin
    optimiser = torch.optim.SGD(nets.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for number, progress in enumerate((0.0, 8 / 100, 9 / 100, 0.5, 0.995)):
        s.step.start_epoch(progress)
        s.batch = s.task.batch(seed=number)
        s.update()
        labels = copy.deepcopy(nets.guide)(s.batch.x).argmax(dim=1)
        nets.target.eval()
        x_adv = s.ascend(
            lambda x, at=s.batch.x: formulas.kl(nets.target(at).detach(), nets.target(x)).sum(), "gaussian"
        )
        nets.target.train()
        moved = perturbation(formulas, nets.target, x_adv, s.batch, 0.05) if progress >= 9 / 100 else {}
        assert bool(moved) == (number >= 2)
        weights = dict(nets.target.named_parameters())
        for name, way in moved.items():
            weights[name].data += way
        optimiser.zero_grad()
        awp_loss(formulas, nets, x_adv, s.batch, labels).backward()
        optimiser.step()
        for name, way in moved.items():
            weights[name].data -= way
        nets.zero_grad(set_to_none=True)
        s.assert_same(rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("progress", "cost"), [(0.0, 30), (8 / 100, 30), (9 / 100, 36), (0.9, 36)])
def test_an_awp_step_costs_30_then_36_forwards(progress, cost, stage):
    s = stage(DYNATAWP(), steps=10, progress=progress)
    assert s.update() == cost
    ascent = ["target(x_adv)", "target(x)"] if cost == 36 else []
    assert s.order() == ["guide(x)", *ascent, "target(x_adv)", "target(x)"]
    assert int(s.nets.target[1].num_batches_tracked) == 2, "the ascent must leave no trace in batch norm"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (DYNAT, {"beta": -1.0}, "beta must be 0 or more"),
        (DYNAT, {"inner": "ce"}, "inner one of dyn_ce, trades_kl, gt_ce"),
        (DYNAT, {"guide_lead": -1}, "guide_lead must be 0 or more epochs"),
        (DYNATAWP, {"beta": float("nan")}, "must be 0 or more"),
        (DYNATAWP, {"gamma": -0.1}, "must be 0 or more"),
        (DYNATAWP, {"ascent_beta": float("inf")}, "must be 0 or more"),
        (DYNATAWP, {"warmup": 1.5}, r"warmup in \[0, 1\]"),
    ],
)
def test_impossible_values_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)
