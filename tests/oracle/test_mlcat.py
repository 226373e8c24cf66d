"""MLCAT by weight perturbation (as released: proxies and summed differences) and by loss scaling, in float64."""

import copy
import math

import pytest
import torch
from torch import nn

from advbench.methods.mlcat import MLCATLS, MLCATWP


def layers(net):
    return [module.weight for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def released_perturbation(net, loss_each, threshold, ascents):
    """Sum of the proxies' differences, each proxy starting at w + gamma · scaled sum; scaled to the norm of w."""
    flat = torch.cat([w.detach().flatten() for w in layers(net)])
    total = torch.zeros_like(flat)
    scaled = torch.zeros_like(flat)
    below = []
    for _ in range(ascents):
        proxy = copy.deepcopy(net).train()
        sizes = [w.numel() for w in layers(proxy)]
        with torch.no_grad():
            for w, v in zip(layers(proxy), scaled.split(sizes), strict=True):
                w.add_(0.02 * v.view_as(w))
        start = torch.cat([w.detach().flatten() for w in layers(proxy)])
        optimiser = torch.optim.SGD(proxy.parameters(), lr=0.01)
        each = loss_each(proxy)
        below.append(int((each < threshold).sum()))
        kept = torch.stack([value if value < threshold else 0 * value for value in each])
        (-kept.mean()).backward()
        optimiser.step()
        total = total + torch.cat([w.detach().flatten() for w in layers(proxy)]) - start
        scaled = flat.norm() / (total.norm() + 1e-20) * total
    return scaled, below


@pytest.mark.parametrize("ascents", [10, 3])
def test_updates_are_those_of_the_released_proxies(ascents, stage, formulas):
    s = stage(MLCATWP(gamma=0.02, ascents=ascents))
    seen = s.watch()
    optimiser = torch.optim.SGD(s.twin.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    net = s.twin.target
    for seed in range(3):
        s.batch = s.task.batch(seed=seed)
        s.update()

        def loss_each(proxy, y=s.batch.y):
            return formulas.ce(proxy(seen.x_adv), y)

        v, below = released_perturbation(net, loss_each, 1.5, ascents)
        assert 0 < below[0] < 8
        pieces = v.split([w.numel() for w in layers(net)])
        with torch.no_grad():
            for w, piece in zip(layers(net), pieces, strict=True):
                w.add_(0.02 * piece.view_as(w))
        loss_each(net).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            for w, piece in zip(layers(net), pieces, strict=True):
                w.sub_(0.02 * piece.view_as(w))
        s.assert_same(rtol=1e-7, atol=1e-10)


def test_without_an_image_below_the_threshold_the_update_is_pgd_at_s(stage, formulas):
    s = stage(MLCATWP(threshold=1e-9))
    seen = s.watch()
    s.update()
    optimiser = torch.optim.SGD(s.twin.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    formulas.ce(s.twin.target(seen.x_adv), s.batch.y).mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    s.assert_same()


@pytest.mark.parametrize("method", [MLCATWP(), MLCATLS()])
def test_the_attack_ascends_cross_entropy_of_the_unperturbed_target(method, stage, formulas):
    s = stage(method)
    seen = s.watch()
    s.update()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "uniform")


@pytest.mark.parametrize("detach_weight", [False, True])
def test_scaled_loss_and_its_gradients(detach_weight, stage, formulas):
    s = stage(MLCATLS(detach_weight=detach_weight))
    loss, seen = s.loss()
    each = formulas.ce(s.twin.target(seen.x_adv), s.batch.y)
    assert 0 < int((each < 1.5).sum()) < 8
    values = []
    for value in each:
        if value >= 1.5:
            values.append(value)
        elif detach_weight:
            values.append(value * (1.5 / max(value.item(), 1e-3)))
        else:
            values.append(value * (1.5 / value))  # the release: differentiated, a constant
    reference = torch.stack(values).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same(rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("detach_weight", [False, True])
def test_a_loss_of_zero_stays_finite(detach_weight, tiny_task, make_step):
    task = tiny_task(dtype=torch.float32)
    method = MLCATLS(detach_weight=detach_weight)
    nets = method.build(task)
    batch = task.batch()
    nets.target[-1].weight.data.zero_()
    nets.target[-1].bias.data.copy_(torch.tensor([200.0, 0, 0, 0, 0]))
    loss = method.loss(nets, batch._replace(y=torch.zeros_like(batch.y)), make_step(nets, task))
    loss.backward()
    assert float(loss.detach()) == (0.0 if detach_weight else 1.5)
    assert all(torch.isfinite(parameter.grad).all() for parameter in nets.parameters())
    assert all(not parameter.grad.any() for parameter in nets.parameters())


@pytest.mark.parametrize(("lead", "factor"), [(5.0, None), (10.0, 1500.0)])
def test_the_detached_weight_is_capped_at_1500(lead, factor, stage):
    """Losses of log(1 + 4 exp(-lead)), 0.027 and 0.00018: scaled to the threshold, and by the cap alone."""
    s = stage(MLCATLS(detach_weight=True))
    s.nets.target[-1].weight.data.zero_()
    s.nets.target[-1].bias.data.copy_(torch.tensor([lead, 0, 0, 0, 0]))
    s.batch = s.batch._replace(y=torch.zeros_like(s.batch.y))
    loss, _ = s.loss()
    each = math.log(1 + 4 * math.exp(-lead))
    assert float(loss) == pytest.approx(1.5 if factor is None else factor * each, rel=1e-9)


def test_loss_alone_is_cross_entropy_at_the_unperturbed_weights(stage, formulas):
    s = stage(MLCATWP())
    loss, seen = s.loss()
    reference = formulas.ce(s.twin.target(seen.x_adv), s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


@pytest.mark.parametrize(("method", "cost"), [(MLCATWP(), 53), (MLCATLS(), 23)])
def test_passes_of_a_step(method, cost, stage):
    s = stage(method, steps=10)
    assert s.update() == cost
    assert set(s.order()) == {"target(x_adv)"}


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (MLCATWP, "threshold", 0.0),
        (MLCATWP, "gamma", float("nan")),
        (MLCATWP, "ascents", 0),
        (MLCATLS, "threshold", float("inf")),
    ],
)
def test_impossible_values_are_refused_in_one_line(cls, name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        cls(**{name: value})
