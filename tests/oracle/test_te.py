"""PGD-TE and TRADES-TE: memory, ramp, penalty inside and outside the attack, against float64 formulas."""

import math

import pytest
import torch

from advbench.methods.te import TE, TRADESTE


def penalty(formulas, z, t, w):
    """w · mean over images and classes of squared differences."""
    difference = formulas.softmax(z) - t
    return w * (difference * difference).sum() / difference.numel()


def target_of(memory, rows, p):
    """The memory after a visit with predictions p, and the label it gives."""
    for position, row in enumerate(rows.tolist()):
        memory[row] = [0.9 * old + 0.1 * new for old, new in zip(memory.get(row, [0.0] * 5), p[position], strict=True)]
    return torch.tensor([[v / sum(memory[row]) for v in memory[row]] for row in rows.tolist()], dtype=torch.float64)


def inner(formulas, net, goal, *, t, w):
    """What the attack ascends in the release: means; `goal` is labels, or clean logits for beta = 4 times KL."""

    def objective(x_now):
        z = net(x_now)
        first = formulas.ce(z, goal).mean() if goal.dim() == 1 else 4.0 / len(z) * formulas.kl(goal, z).sum()
        return first + penalty(formulas, z, t, w)

    return objective


WEIGHT_AT = {0.0: 0.0, 88 / 200: 0.0, 89 / 200: math.exp(-5), 119 / 200: math.exp(-1.25), 149 / 200: 1.0, 0.99: 1.0}


@pytest.mark.parametrize("progress", WEIGHT_AT)
@pytest.mark.parametrize("num_classes", [5, 20])
def test_the_weight_ramps_and_grows_with_the_number_of_classes(progress, num_classes):
    z = torch.zeros(2, num_classes, dtype=torch.float64)
    t = torch.zeros_like(z)
    t[:, 0] = 1.0
    step = type("At", (), {"progress": progress})()
    distance = (1 - 1 / num_classes) ** 2 + (num_classes - 1) / num_classes**2
    expected = 300 * (num_classes / 10) * WEIGHT_AT[progress] * distance / num_classes
    assert float(TE().penalty(z, t, step)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", [TE(), TRADESTE(beta=4.0)], ids=["te", "trades_te"])
def test_losses_gradients_and_memory_over_several_visits_across_the_switch(method, stage, formulas):
    s = stage(method)
    memory = {}
    seen = s.watch()
    for number, progress in enumerate((0.0, 88 / 200, 89 / 200, 119 / 200, 149 / 200, 0.9)):
        s.step.start_epoch(progress)
        s.batch = s.task.batch(seed=number % 3)
        x, y, rows = s.batch
        w = 300 * 0.5 * WEIGHT_AT.get(progress, 1.0)
        s.nets.zero_grad(set_to_none=True)
        loss = s.method.loss(s.nets, s.batch, s.step)
        loss.backward()
        s.twin.zero_grad(set_to_none=True)
        net = s.twin.target
        with torch.no_grad():
            clean = net.eval()(x)
        t = target_of(memory, rows, formulas.softmax(clean).tolist()) if progress >= 89 / 200 else torch.zeros(8, 5)

        objective = inner(formulas, net, clean if isinstance(method, TRADESTE) else y, t=t, w=w)
        probe = (x + 0.03).requires_grad_()
        value = objective(probe)
        torch.testing.assert_close(seen.value, 8 * value.detach(), rtol=1e-10, atol=0)
        torch.testing.assert_close(seen.gradient, 8 * torch.autograd.grad(value, probe)[0], rtol=1e-8, atol=1e-12)
        expected = s.ascend(objective, "gaussian" if isinstance(method, TRADESTE) else "uniform")
        torch.testing.assert_close(seen.x_adv, expected, rtol=0, atol=1e-12)
        net.train()
        if isinstance(method, TRADESTE):
            z, z_adv = net(x), net(seen.x_adv)
            reference = formulas.ce(z, y).mean() + 4.0 * formulas.kl(z, z_adv).mean() + penalty(formulas, z, t, w)
        else:
            z_adv = net(seen.x_adv)
            reference = formulas.ce(z_adv, y).mean() + penalty(formulas, z_adv, t, w)
        reference.backward()
        torch.testing.assert_close(loss.detach(), reference.detach(), rtol=1e-9, atol=0)
        for row in range(s.task.images):
            expected_row = torch.tensor(memory.get(row, [0.0] * 5), dtype=torch.float64)
            torch.testing.assert_close(s.nets.memory[row], expected_row, rtol=1e-12, atol=0)
        s.twin.memory.copy_(s.nets.memory)
        s.assert_same()
    assert 8 < len(memory) < s.task.images


def test_the_memory_takes_no_gradient_and_is_part_of_the_state(stage):
    s = stage(TE(), progress=0.5)
    s.update()
    assert not s.nets.memory.requires_grad
    assert "memory" in s.nets.state_dict()
    assert s.nets.memory.abs().sum() > 0
    assert s.nets.memory.shape == (s.task.images, s.task.num_classes)


@pytest.mark.parametrize(
    ("method", "progress", "cost", "order"),
    [
        (TE(), 0.0, 23, ["target(x_adv)"]),
        (TE(), 89 / 200, 24, ["target(x_adv)"]),
        (TRADESTE(), 0.0, 27, ["target(x)", "target(x_adv)"]),
        (TRADESTE(), 89 / 200, 27, ["target(x)", "target(x_adv)"]),
    ],
)
def test_passes_and_order_of_forwards(method, progress, cost, order, stage):
    s = stage(method, steps=10, progress=progress)
    assert s.update() == cost
    assert s.order() == order


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (TE, "weight", -1.0),
        (TE, "decay", 1.0),
        (TE, "start", 0.75),
        (TRADESTE, "end", 1.2),
        (TRADESTE, "beta", float("nan")),
    ],
)
def test_impossible_values_are_refused_in_one_line(cls, name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        cls(**{name: value})
