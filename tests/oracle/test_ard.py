"""ARD against its formula in float64: the teacher's clean output at temperature T, for adversarial images."""

import pytest
import torch

from advbench.methods.ard import ARD


@pytest.mark.parametrize("alpha", [1.0, 0.6])
@pytest.mark.parametrize("num_classes", [5, 20])
def test_loss_gradients_and_statistics_are_the_formula_s(alpha, num_classes, stage, formulas):
    s = stage(ARD(alpha=alpha, temperature=4.0), num_classes=num_classes)
    loss, seen = s.loss()
    z_adv, z = s.twin.target(seen.x_adv), s.twin.target(s.batch.x)
    clean = s.twin.teacher.net.eval()(s.batch.x)
    elements = formulas.kl(clean, z_adv, 4.0).sum() / (8 * num_classes)
    soft = 16.0 * num_classes / 10 * elements
    reference = alpha * soft + (1 - alpha) * formulas.ce(z, s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()
    assert all(parameter.grad is None for parameter in s.nets.teacher.parameters())
    turned = formulas.kl(z_adv, clean, 4.0).sum() / (8 * num_classes)
    assert (turned - elements).abs() > 1e-3 * elements, "the direction shows at this input"


def test_the_released_temperature_is_the_default():
    assert (ARD().alpha, ARD().temperature) == (1.0, 30.0)


def test_the_attack_ascends_cross_entropy_of_the_target_from_a_uniform_start(stage, formulas):
    s = stage(ARD())
    _, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "uniform")


@pytest.mark.parametrize(("alpha", "cost"), [(1.0, 25), (0.5, 27)])
def test_a_step_s_passes_and_order_and_the_teacher_is_left_alone(alpha, cost, stage):
    s = stage(ARD(alpha=alpha), steps=10)
    assert s.update() == cost
    assert s.order() == ["target(x_adv)", "target(x)"]
    for ours, theirs in zip(s.nets.teacher.state_dict().values(), s.twin.teacher.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_needs_a_robust_teacher_and_says_that_it_is_of_its_own_size():
    assert dict(ARD.requires) == {"robust": "trades"}
    assert "self-sized distillation" in ARD.card.notes


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", 1.5), ("temperature", 0.0), ("temperature", float("inf")), ("scale", -1.0)]
)
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        ARD(**{name: value})
