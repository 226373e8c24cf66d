"""KD+SWA: distillation on adversarial images, and the equal average over epochs, against float64 formulas."""

import pytest
import torch

from advbench.methods.kd_swa import KDSWA


def kd(formulas, student, teacher):
    """T² · mean over images of -sum_c softmax(t/T)_c log softmax(z/T)_c, T = 2."""
    soft = formulas.softmax(teacher, 2.0)
    return 4.0 * -(soft * formulas.softmax(student, 2.0).log()).sum(dim=1).mean()


def test_loss_and_gradients_are_the_formula_and_the_teachers_see_adversarial_images_in_eval_mode(stage, formulas):
    s = stage(KDSWA())
    loss, seen = s.loss()
    z = s.twin.target(seen.x_adv)
    standard, robust = (s.twin.get_submodule(name).net.eval()(seen.x_adv) for name in ("standard", "robust"))
    reference = 0.3 * formulas.ce(z, s.batch.y).mean() + 0.1 * kd(formulas, z, standard) + 0.6 * kd(formulas, z, robust)
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()
    assert all(parameter.grad is None for name, parameter in s.nets.named_parameters() if "target" not in name)
    assert not torch.equal(standard, robust)


def test_the_attack_ascends_cross_entropy_of_the_target_from_a_uniform_start(stage, formulas):
    s = stage(KDSWA())
    _, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "uniform")


def test_average_over_epochs_starts_at_its_fraction_and_its_statistics_are_refreshed(stage, monkeypatch):
    """Of 40 epochs, ceil(0.525 · 40) = 21 is the first (zero-based) that is averaged, with weight 1."""
    s = stage(KDSWA())
    refreshed = []
    monkeypatch.setattr(s.step, "refresh_bn", refreshed.append)
    visited = []
    for epoch in (0, 20, 21, 22, 23):
        s.step.start_epoch(epoch / 40)
        s.batch = s.task.batch(seed=epoch)
        s.update()
        with torch.no_grad():
            s.method.after_step(s.nets, s.step)
            s.method.after_epoch(s.nets, s.step)
        deployed = s.method.deployed(s.nets)
        if epoch < 21:
            assert deployed is s.nets.target
            continue
        assert deployed is s.nets.average
        visited.append([parameter.detach().clone() for parameter in s.nets.target.parameters()])
        for position, parameter in enumerate(deployed.parameters()):
            mean = torch.stack([weights[position] for weights in visited]).mean(dim=0)
            torch.testing.assert_close(parameter.data, mean, rtol=1e-12, atol=1e-14)
        assert refreshed == [s.nets.average] * len(visited)
    assert int(s.nets.count) == 3
    assert not any(parameter.requires_grad for parameter in s.nets.average.parameters())


def test_a_step_costs_25_forwards_and_moves_the_statistics_once(stage):
    s = stage(KDSWA(), steps=10)
    assert s.update() == 25
    assert s.order() == ["target(x_adv)"]


def test_teachers_are_those_it_declares(tiny_task):
    task = tiny_task()
    asked = []
    original = task.teacher
    task.teacher = lambda role: asked.append(role) or original(role)
    nets = KDSWA().build(task)
    assert sorted(asked) == sorted(KDSWA.requires) == ["robust", "standard"]
    assert dict(KDSWA.requires) == {"standard": "standard", "robust": "pgd_at"}
    nets.train()
    assert not nets.standard.net.training
    assert not nets.robust.net.training


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce", -0.1),
        ("kd_standard", float("nan")),
        ("kd_robust", float("inf")),
        ("temperature", 0.0),
        ("swa_delay", 2.0),
    ],
)
def test_impossible_values_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"^[^\n]*{name}[^\n]*$"):
        KDSWA(**{name: value})
