"""IKL-AT against its release's formulas in float64: pairwise differences, class means, the growing ball."""

import copy

import pytest
import torch

from advbench.methods.ikl_at import IKLAT


def dkl(formulas, z, z_adv, s):
    """The release's loss, all C² differences written out; the soft label takes no gradient, the differences do."""
    delta_n, delta_a = (a[:, :, None] - a[:, None, :] for a in (z, z_adv))
    pairs = s[:, :, None] * s[:, None, :]
    squared = 0.25 * ((delta_n - delta_a) ** 2 * pairs).sum() / len(z)
    return 20 * squared + 4 * formulas.ce(z_adv, formulas.softmax(z).detach()).mean()


def test_loss_gradients_and_memory_are_the_formula_s(stage, formulas):
    s = stage(IKLAT())
    means = torch.rand(5, 5, dtype=torch.float64)
    means /= means.sum(dim=1, keepdim=True)
    for nets in (s.nets, s.twin):
        nets.means.copy_(means)
    loss, seen = s.loss()
    z_adv, z = s.twin.target(seen.x_adv), s.twin.target(s.batch.x)
    reference = formulas.ce(z, s.batch.y).mean() + dkl(formulas, z, z_adv, means[s.batch.y])
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    for label, p in zip(s.batch.y.tolist(), formulas.softmax(z.detach(), 4.0), strict=True):
        s.twin.sums[label] += p
    s.assert_same()


@pytest.mark.parametrize(
    ("progress", "steps", "size", "cost"), [(0.0, 2, 1, 11), (0.3, 3, 2 / 3, 19), (0.5, 4, 0.5, 21), (0.9, 5, 0.5, 23)]
)
def test_the_ball_and_the_number_of_steps_grow(progress, steps, size, cost, stage):
    s = stage(IKLAT(), steps=10)
    s.step.start_epoch(progress, 0, progress + 0.05)
    asked = {}
    original = s.step.craft
    s.step.craft = lambda *arguments, **options: asked.update(options) or original(*arguments, **options)
    assert s.update() == cost
    assert (asked["steps"], asked["start"]) == (steps, "gaussian")
    assert asked["eps"] == pytest.approx(progress + 0.05)
    assert asked["step"] == pytest.approx(size * (progress + 0.05))


def test_the_attack_is_that_of_trades(stage, formulas):
    s = stage(IKLAT(), steps=5)
    s.step.start_epoch(0.9)
    seen = s.watch()
    x_adv = s.method.crafted(s.nets, s.batch, s.step)
    net = s.twin.target.eval()
    probe = (s.batch.x + 0.03).requires_grad_()
    value = formulas.kl(net(s.batch.x).detach(), net(probe)).sum()
    torch.testing.assert_close(seen.value, value.detach())
    torch.testing.assert_close(seen.gradient, torch.autograd.grad(value, probe)[0], rtol=1e-8, atol=1e-12)
    assert (x_adv - s.batch.x).abs().max() <= 0.1 + 1e-12


def test_after_an_epoch_the_means_of_seen_classes_are_taken_over_and_weights_averaged(stage):
    s = stage(IKLAT())
    s.update()
    sums = s.nets.sums.clone()
    first = copy.deepcopy(s.nets.target)
    s.method.after_epoch(s.nets, s.step)
    assert s.method.deployed(s.nets) is s.nets.average
    for label in range(5):
        due = sums[label] / sums[label].sum() if label in s.batch.y else torch.full((5,), 0.2, dtype=torch.float64)
        torch.testing.assert_close(s.nets.means[label], due)
    assert not s.nets.sums.any()
    s.update()
    s.method.after_epoch(s.nets, s.step)
    for average, old, new in zip(
        s.nets.average.parameters(), first.parameters(), s.nets.target.parameters(), strict=True
    ):
        torch.testing.assert_close(average, 0.9 * old + 0.1 * new)


@pytest.mark.parametrize(("name", "value"), [("alpha", -1.0), ("temperature", 0.0), ("warmup", 2.0), ("decay", 1.0)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        IKLAT(**{name: value})
