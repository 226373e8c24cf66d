"""CFA against its release's rules in float64: a radius for each class, and which epochs are averaged."""

import copy

import pytest
import torch

from advbench.methods.cfa import CFA


@pytest.mark.parametrize("progress", [0.0, 9 / 200, 10 / 200, 0.9])
def test_each_image_is_attacked_within_the_radius_of_its_class(progress, stage, formulas):
    s = stage(CFA())
    s.step.start_epoch(progress)
    for nets in (s.nets, s.twin):
        nets.robust.copy_(torch.tensor([0.0, 0.1, 0.2, 0.4, 0.9], dtype=torch.float64))
    loss, seen = s.loss()
    moved = (seen.x_adv - s.batch.x).flatten(1).abs().amax(dim=1)
    radii = [0.05, 0.06, 0.07, 0.09, 0.1] if progress >= 0.05 else [0.1] * 5  # never above the protocol's
    due = torch.tensor(radii, dtype=torch.float64)[s.batch.y]
    assert torch.all(moved <= due + 1e-12)
    assert torch.all(moved > 0.7 * due)
    z_adv = s.twin.target(seen.x_adv)
    reference = formulas.ce(z_adv, s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    for label, right in zip(s.batch.y, z_adv.argmax(1) == s.batch.y, strict=True):
        s.twin.seen[label] += 1
        s.twin.right[label] += right
    s.assert_same()


def test_the_attack_ascends_cross_entropy_from_a_uniform_start(stage, formulas):
    s = stage(CFA())
    _, seen = s.loss()
    net = s.twin.eval().target
    s.assert_attack(seen, lambda x: formulas.ce(net(x), s.batch.y).sum(), "uniform")


def test_an_epoch_is_averaged_unless_a_class_falls_below_the_threshold(stage):
    s = stage(CFA())
    kept = []
    for right in ([1, 9, 9, 9, 9], [2, 9, 9, 9, 9], [1, 5, 5, 5, 5], [3, 9, 9, 9, 9]):
        with torch.no_grad():
            for parameter in s.nets.target.parameters():
                parameter.add_(1.0)
        s.nets.seen.fill_(10)
        s.nets.right.copy_(torch.tensor(right))
        s.method.after_epoch(s.nets, s.step)
        torch.testing.assert_close(s.nets.robust, torch.tensor(right, dtype=torch.float64) / 10)
        assert not s.nets.seen.any()
        kept.append(copy.deepcopy(s.nets.target[0].weight))
        deployed = s.nets.average if len(kept) > 1 else s.nets.target
        assert s.method.deployed(s.nets) is deployed
    torch.testing.assert_close(s.nets.average[0].weight, 0.88 * kept[1] + 0.12 * kept[3])


def test_a_step_costs_23_forwards(stage):
    s = stage(CFA(), steps=10, progress=0.9)
    assert s.update() == 23
    assert s.order() == ["target(x_adv)"]


@pytest.mark.parametrize(("name", "value"), [("lam", -0.1), ("begin", 2.0), ("threshold", 1.5), ("decay", 1.0)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        CFA(**{name: value})
