"""SGLR and TRADES-SGLR against NumPy: the label memory visit by visit, the switch at `start`, losses and gradients."""

import numpy as np
import pytest
import torch

from advbench.methods.sglr import SGLR, TRADESSGLR


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def one_hot(s):
    return np.eye(5)[s.task.labels.numpy()]


def test_the_memory_starts_one_hot_is_saved_and_is_not_trained(stage):
    s = stage(SGLR())
    np.testing.assert_array_equal(s.nets.table.numpy(), one_hot(s))
    assert "table" in s.nets.state_dict()
    assert not s.nets.table.requires_grad
    assert set(s.method.deployed(s.nets).state_dict()) == set(s.task.network().state_dict())


@pytest.mark.parametrize("method", [SGLR, TRADESSGLR])
def test_hard_labels_and_an_untouched_memory_before_the_start(method, stage, formulas):
    s = stage(method(), progress=88 / 200)
    loss, seen = s.loss()
    z_adv = s.twin.target(seen.x_adv)
    reference = formulas.ce(z_adv, s.batch.y).mean()
    if method is TRADESSGLR:
        z = s.twin.target(s.batch.x)
        reference = formulas.ce(z, s.batch.y).mean() + 6 * formulas.kl(z, z_adv).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()
    np.testing.assert_array_equal(s.nets.table.numpy(), one_hot(s))


@pytest.mark.parametrize("method", [SGLR, TRADESSGLR])
@pytest.mark.parametrize("refined", [1.0, 0.6])
def test_the_memory_moves_before_the_loss_and_takes_no_gradient(method, refined, stage, formulas):
    s = stage(method(refined=refined), progress=0.45)
    loss, seen = s.loss()
    z_adv, z = s.twin.target(seen.x_adv), s.twin.target(s.batch.x)
    index, hard = s.batch.index.numpy(), np.eye(5)[s.batch.y.numpy()]
    mixed = 0.2 * softmax(z.detach().numpy()) + 0.8 * softmax(z_adv.detach().numpy())
    table = one_hot(s)
    table[index] = 0.9 * table[index] + 0.1 * mixed
    np.testing.assert_allclose(s.nets.table.numpy(), table, rtol=1e-12)
    labels = torch.from_numpy(refined * table[index] + (1 - refined) * hard)
    if method is SGLR:
        reference = formulas.ce(z_adv, labels).mean()
    else:
        reference = formulas.ce(z, labels).mean() + 6 * formulas.kl(z, z_adv).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.twin.table.copy_(torch.from_numpy(table))
    s.assert_same()


@pytest.mark.parametrize("method", [SGLR, TRADESSGLR])
def test_memory_and_weights_over_three_epochs_and_across_the_switch(method, stage, formulas):
    """Three epochs of four batches that visit each of 32 images once; labels are refined from the second epoch on."""
    s = stage(method(start=0.3, decay=0.7, clean=0.4), lr=0.05)
    net, table = s.twin.target, one_hot(s)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    visits = np.zeros(32)
    for epoch in range(3):
        s.step.start_epoch(epoch / 3)
        order = torch.randperm(32, generator=torch.Generator().manual_seed(epoch))
        for index in order.split(8):
            x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(int(index[0])), dtype=torch.float64)
            s.batch = type(s.batch)(x, s.task.labels[index], index)
            s.update()
            net.eval()
            if method is SGLR:
                x_adv = s.ascend(lambda probe, y=s.batch.y: formulas.ce(net(probe), y).sum(), "uniform")
            else:
                x_adv = s.ascend(lambda probe, x=x: formulas.kl(net(x).detach(), net(probe)).sum(), "uniform")
            net.train()
            z_adv, labels = net(x_adv), s.batch.y
            z = net(x) if method is TRADESSGLR or epoch else None
            if epoch:
                mixed = 0.4 * softmax(z.detach().numpy()) + 0.6 * softmax(z_adv.detach().numpy())
                table[index.numpy()] = 0.7 * table[index.numpy()] + 0.3 * mixed
                labels = torch.from_numpy(table[index.numpy()])
                visits[index.numpy()] += 1
            loss = formulas.ce(z_adv, labels).mean()
            if method is TRADESSGLR:
                loss = formulas.ce(z, labels).mean() + 6 * formulas.kl(z, z_adv).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            np.testing.assert_allclose(s.nets.table.numpy(), table, rtol=1e-7)
    assert set(visits) == {2}
    np.testing.assert_allclose(s.nets.table.sum(dim=1).numpy(), 1.0)
    s.twin.table.copy_(torch.from_numpy(table))
    s.twin.zero_grad(set_to_none=True)
    s.assert_same(rtol=1e-7, atol=1e-9)


def test_the_attack_keeps_the_hard_labels(stage, formulas):
    s = stage(SGLR(), progress=0.9)
    _, seen = s.loss()
    net = s.twin.target.eval()
    s.assert_attack(seen, lambda x: formulas.ce(net(x), s.batch.y).sum(), "uniform")


def test_the_attack_of_trades_sglr_is_that_of_trades_from_a_uniform_start(stage, formulas):
    s = stage(TRADESSGLR(), progress=0.9)
    _, seen = s.loss()
    net = s.twin.target.eval()
    s.assert_attack(seen, lambda x: formulas.kl(net(s.batch.x).detach(), net(x)).sum(), "uniform")


@pytest.mark.parametrize(
    ("method", "progress", "cost", "order"),
    [
        (SGLR, 0.0, 23, ["target(x_adv)"]),
        (SGLR, 88 / 200, 23, ["target(x_adv)"]),
        (SGLR, 89 / 200, 24, ["target(x_adv)", "target(x)"]),
        (TRADESSGLR, 0.0, 27, ["target(x_adv)", "target(x)"]),
        (TRADESSGLR, 0.9, 27, ["target(x_adv)", "target(x)"]),
    ],
)
def test_the_cost_of_a_step_and_the_order_of_forwards(method, progress, cost, order, stage):
    s = stage(method(), steps=10, progress=progress)
    assert s.update() == cost
    assert s.order() == order


def test_the_memory_has_the_precision_of_the_network(tiny_task, make_step):
    task = tiny_task(dtype=torch.float32)
    nets = SGLR().build(task)
    assert nets.table.dtype == torch.float32
    step = make_step(nets, task, progress=0.9)
    with step.batch(8), torch.autocast("cpu", dtype=torch.bfloat16):
        SGLR().update(nets, task.batch(), step)
    assert nets.table.dtype == torch.float32
    assert torch.isfinite(nets.table).all()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (SGLR, {"start": 1.1}),
        (SGLR, {"decay": -0.1}),
        (SGLR, {"clean": float("nan")}),
        (TRADESSGLR, {"refined": 2.0}),
        (TRADESSGLR, {"beta": -1.0}),
    ],
)
def test_impossible_values_are_refused(method, options):
    with pytest.raises(ValueError, match="must be"):
        method(**options)
