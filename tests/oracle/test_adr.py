"""ADR: rectified labels from the average, in the attack and in the loss, against float64 formulas."""

import math

import pytest
import torch

from advbench.methods.adr import ADR


def rectified(formulas, net, batch, progress):
    """The labels, image by image, at a progress along the half cosine."""
    fall = 0.5 * (1 + math.cos(math.pi * progress))
    temperature, mixing = 2.0 + 0.5 * fall, 0.95 - 0.25 * fall
    rows = []
    for q, y in zip(formulas.softmax(net.eval()(batch.x), temperature), batch.y.tolist(), strict=True):
        trust = min(1.0, max(0.0, mixing - (float(q.max()) - float(q[y]))))
        label = (1 - trust) * torch.eye(len(q), dtype=q.dtype)[y] + trust * q
        rows.append(label)
    return torch.stack(rows).detach()


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.75])
def test_loss_attack_and_gradients_have_the_rectified_labels(stage, formulas, progress):
    s = stage(ADR())
    for nets in (s.nets, s.twin):  # an average unlike the network, sure of itself on some images
        for weight in nets.average.parameters():
            weight.data.mul_(1.5)
    s.step.start_epoch(progress)
    loss, seen = s.loss()
    labels = rectified(formulas, s.twin.average, s.batch, progress)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(len(labels), dtype=labels.dtype))
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), labels).sum(), "uniform")
    s.twin.train()
    reference = formulas.ce(s.twin.target(seen.x_adv), labels).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_an_average_that_is_sure_of_another_class_is_not_trusted(stage, formulas):
    s = stage(ADR(mixing_start=0.0, mixing_end=0.0))
    labels = s.method.rectified(s.nets, s.batch, s.step)
    assert torch.equal(labels, torch.eye(5, dtype=labels.dtype)[s.batch.y])


def test_the_average_follows_with_a_constant_decay_and_is_deployed_on_demand(stage):
    s = stage(ADR(decay=0.9), steps=10)
    average = s.nets.average[0].weight.clone()
    assert s.update() == 24
    assert s.order() == ["target(x_adv)"]
    s.method.after_step(s.nets, s.step)
    expected = 0.9 * average + 0.1 * s.nets.target[0].weight.detach()
    torch.testing.assert_close(s.nets.average[0].weight, expected, rtol=1e-12, atol=1e-14)
    assert s.method.deployed(s.nets) is s.nets.target
    assert ADR(deploy_average=True).deployed(s.nets) is s.nets.average
    assert not any(parameter.requires_grad for parameter in s.nets.average.parameters())


@pytest.mark.parametrize(
    ("name", "value"), [("temperature_start", 0.0), ("temperature_end", math.inf), ("mixing_end", 1.1), ("decay", -0.1)]
)
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        ADR(**{name: value})
