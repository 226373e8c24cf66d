"""RSLAD against its formula in float64: both divergences take the frozen teacher's clean output as reference."""

import pytest
import torch

from advbench.methods.rslad import RSLAD


@pytest.mark.parametrize("num_classes", [5, 20])
def test_loss_and_gradients_are_the_formula_with_its_element_means_rescaled_by_c_over_10(num_classes, stage, formulas):
    s = stage(RSLAD(), num_classes=num_classes)
    loss, seen = s.loss()
    z_adv, z = s.twin.target(seen.x_adv), s.twin.target(s.batch.x)
    clean = s.twin.teacher.net.eval()(s.batch.x)
    elements = 8 * num_classes
    adversarial, natural = (formulas.kl(clean, other).sum() / elements for other in (z_adv, z))
    reference = num_classes / 10 * (5 / 6 * adversarial + 1 / 6 * natural)
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()
    assert all(parameter.grad is None for parameter in s.nets.teacher.parameters())
    turned = formulas.kl(z_adv, clean).sum() / elements
    assert (turned - adversarial).abs() > 1e-3, "the direction shows at this input"


def test_the_attack_ascends_the_divergence_from_the_teacher_s_clean_output(stage, formulas):
    s = stage(RSLAD())
    _, seen = s.loss()
    s.twin.eval()
    clean = s.twin.teacher(s.batch.x)
    s.assert_attack(seen, lambda x: formulas.kl(clean, s.twin.target(x)).sum(), "gaussian")


def test_a_step_costs_27_forwards_adversarial_then_clean_and_leaves_the_teacher_alone(stage):
    s = stage(RSLAD(), steps=10)
    assert s.update() == 27
    assert s.order() == ["target(x_adv)", "target(x)"]
    for ours, theirs in zip(s.nets.teacher.state_dict().values(), s.twin.teacher.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_needs_a_robust_teacher_and_says_that_it_is_of_its_own_size():
    assert dict(RSLAD.requires) == {"robust": "trades"}
    assert "self-sized distillation" in RSLAD.card.notes


@pytest.mark.parametrize(("name", "value"), [("alpha", -0.1), ("alpha", 1.1), ("scale", 0.0), ("scale", float("nan"))])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        RSLAD(**{name: value})
