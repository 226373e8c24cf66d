"""AdaAD against its formula in float64: the attack differentiates through the frozen teacher as well."""

import pytest
import torch

from advbench.methods.adaad import AdaAD


@pytest.mark.parametrize("alpha", [1.0, 0.6])
@pytest.mark.parametrize("num_classes", [10, 100])
def test_loss_gradients_and_statistics_are_the_formula_s(alpha, num_classes, stage, formulas):
    s = stage(AdaAD(alpha=alpha), num_classes=num_classes)
    loss, seen = s.loss()
    teacher = s.twin.teacher.net.eval()
    z, z_adv = s.twin.target(s.batch.x), s.twin.target(seen.x_adv)
    elements = 8 * 10 if num_classes == 10 else 8  # release: mean over classes for CIFAR-10, sum for CIFAR-100
    adversarial = formulas.kl(teacher(seen.x_adv).detach(), z_adv).sum() / elements
    natural = formulas.kl(teacher(s.batch.x).detach(), z).sum() / elements
    reference = alpha * adversarial + (1 - alpha) * natural
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()
    assert all(parameter.grad is None for parameter in s.nets.teacher.parameters())
    turned = formulas.kl(z_adv, teacher(seen.x_adv)).sum() / elements
    assert (turned - adversarial).abs() > 1e-3, "the direction shows at this input"


def test_the_attack_ascends_the_divergence_from_the_teacher_at_the_same_point(stage, formulas):
    s = stage(AdaAD())
    _, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.kl(s.twin.teacher(x), s.twin.target(x)).sum(), "gaussian")
    probe = (s.batch.x + 0.03).requires_grad_()
    fixed = formulas.kl(s.twin.teacher(probe).detach(), s.twin.target(probe)).sum()
    through_target_alone = torch.autograd.grad(fixed, probe)[0]
    assert not torch.equal(through_target_alone.sign(), seen.gradient.sign())


@pytest.mark.parametrize(("alpha", "cost"), [(1.0, 45), (0.5, 48)])
def test_a_step_s_passes_and_order_and_the_teacher_is_left_alone(alpha, cost, stage):
    """4F an inner step: forward and input gradient, of target and teacher."""
    s = stage(AdaAD(alpha=alpha), steps=10)
    assert s.update() == cost
    assert s.task.ledger.passes.input_gradient == 20 * 8
    assert s.order() == ["target(x)", "target(x_adv)"]
    for ours, theirs in zip(s.nets.teacher.state_dict().values(), s.twin.teacher.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_needs_a_robust_teacher_and_says_that_it_is_of_its_own_size():
    assert dict(AdaAD.requires) == {"robust": "trades"}
    assert "self-sized distillation" in AdaAD.card.notes


@pytest.mark.parametrize(("name", "value"), [("alpha", float("nan")), ("alpha", 2.0), ("scale", 0.0)])
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        AdaAD(**{name: value})
