"""Weight perturbation against a real proxy network, averages against their formula."""

import copy

import pytest
import torch
from torch import nn

from advbench.benchmark.losses import ce_mean
from advbench.benchmark.weights import (
    Averaged,
    added,
    average_into,
    awp_offsets,
    frozen_copy,
    gradient,
    joint_offsets,
    kept_statistics,
    matrices,
    shifted,
)


@pytest.fixture
def workload(tiny_task):
    task = tiny_task()
    return task.network(), task.batch()


def test_awp_offsets_equal_those_of_the_released_proxy(workload):
    """The release trains a copy by one SGD step on the negated loss and rescales the difference, layer by layer."""
    net, batch = workload
    gamma, proxy_lr = 0.01, 0.01
    proxy = copy.deepcopy(net).train()
    optimiser = torch.optim.SGD(proxy.parameters(), lr=proxy_lr)
    (-ce_mean(proxy(batch.x), batch.y)).backward()
    optimiser.step()
    expected = {}
    for (name, old), new in zip(net.named_parameters(), proxy.parameters(), strict=True):
        if old.dim() > 1:
            difference = (new - old).detach()
            expected[name] = gamma * old.norm() / (difference.norm() + 1e-20) * difference
    with kept_statistics(net):
        offsets = awp_offsets(gradient(net.train(), ce_mean(net(batch.x), batch.y)), gamma)
    named = {id(parameter): name for name, parameter in net.named_parameters()}
    assert {named[id(w)] for w, _ in offsets} == set(expected)
    for w, v in offsets:
        torch.testing.assert_close(v, expected[named[id(w)]], rtol=1e-9, atol=1e-14)


def test_statistics_are_kept_and_nothing_is_accumulated(workload):
    net, batch = workload
    before = [buffer.clone() for buffer in net.buffers()]
    with kept_statistics(net):
        gradient(net.train(), ce_mean(net(batch.x), batch.y))
        assert not torch.equal(before[0], next(net.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_shift_is_taken_back_from_whatever_the_weights_became(workload):
    net, _ = workload
    weights = matrices(net)
    before = [w.detach().clone() for w in weights]
    offsets = [(w, torch.full_like(w, 0.5)) for w in weights]
    with shifted(offsets), torch.no_grad():
        assert torch.equal(weights[0], before[0] + 0.5)
        weights[0].add_(2.0)
    torch.testing.assert_close(weights[0].detach(), before[0] + 2.0)
    torch.testing.assert_close(weights[1].detach(), before[1])


def test_shift_is_taken_back_when_the_body_fails(workload):
    net, _ = workload
    weight = matrices(net)[0]
    before = weight.detach().clone()
    with pytest.raises(RuntimeError, match="boom"), shifted([(weight, torch.ones_like(weight))]):
        raise RuntimeError("boom")
    torch.testing.assert_close(weight.detach(), before)


def test_joint_offsets_scale_all_layers_as_one_vector(workload):
    """Against the concatenated vectors; the ratio between layers is the direction's, unlike AWP's."""
    net, _ = workload
    torch.manual_seed(3)
    direction = [(w, torch.randn_like(w)) for w in matrices(net)]
    w, d = (torch.cat([pair[i].detach().flatten() for pair in direction]) for i in (0, 1))
    v = torch.cat([offset.flatten() for _, offset in joint_offsets(direction, 0.01)])
    torch.testing.assert_close(v, 0.01 * w.norm() / d.norm() * d, rtol=1e-12, atol=0)
    nothing = [(w, torch.zeros_like(w)) for w in matrices(net)]
    assert all(not offset.any() for _, offset in joint_offsets(nothing, 0.01))


def test_directions_add_weight_by_weight(workload):
    net, _ = workload
    one, two = ([(w, torch.full_like(w, value)) for w in matrices(net)] for value in (1.0, 2.0))
    total = added(one, two)
    assert [w is v for (w, _), (v, _) in zip(total, one, strict=True)] == [True, True]
    assert all(bool((d == 3.0).all()) for _, d in total)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_average_takes_a_tensor_as_decay(workload, dtype):
    net, batch = workload
    net = net.to(dtype)
    by_float, by_tensor = frozen_copy(net), frozen_copy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    net.train()(batch.x.to(dtype))
    average_into(by_float, net, keep=0.7)
    average_into(by_tensor, net, keep=torch.tensor(0.7, dtype=torch.float64))
    for a, b in zip(by_float.state_dict().values(), by_tensor.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("buffers", [True, False])
def test_average_follows_its_formula(workload, buffers):
    net, batch = workload
    average = frozen_copy(net)
    old = {name: value.clone() for name, value in average.state_dict().items()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    net.train()(batch.x)
    average_into(average, net, keep=0.9, buffers=buffers)
    new = net.state_dict()
    names = {name for name, _ in net.named_buffers()}
    for name, value in average.state_dict().items():
        if name in names and not buffers:
            assert torch.equal(value, old[name])
        elif value.is_floating_point():
            torch.testing.assert_close(value, 0.9 * old[name] + 0.1 * new[name])
        else:
            assert torch.equal(value, new[name])
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert isinstance(average, nn.Module)


def test_averaged_network_counts_its_updates_and_keeps_them_in_its_state(workload):
    net, _ = workload
    nets = Averaged(net)
    trained = {id(parameter) for parameter in nets.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in net.parameters()}
    first = net[5].bias.detach().clone()
    for keep in (0.25, 0.5):
        with torch.no_grad():
            net[5].bias.add_(1.0)
        nets.absorb(keep, buffers=False)
    torch.testing.assert_close(nets.average[5].bias, first + 0.5 * 0.75 + 0.5 * 2)
    again = Averaged(copy.deepcopy(net))
    again.load_state_dict(nets.state_dict())
    assert int(again.count) == 2
    assert torch.equal(again.average[5].bias, nets.average[5].bias)
