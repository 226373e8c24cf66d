"""D2R against its formulas in NumPy and float64 autograd: directions and element means of every KL, CAG, the guide."""

import numpy as np
import pytest
import torch

from advbench.methods.d2r import D2R, distance


def kl_elements(reference, other):
    """KL(reference || other) of logits, summed over images and classes, divided by their number."""
    total = 0.0
    for a, b in zip(reference, other, strict=True):
        p, q = np.exp(a) / np.exp(a).sum(), np.exp(b) / np.exp(b).sum()
        total += (p * np.log(p / q)).sum()
    return total / reference.size


def term(name, weight, z, z_g):
    k_rev, k_fwd, mse = kl_elements(z, z_g), kl_elements(z_g, z), ((z - z_g) ** 2).mean()
    return {
        "none": 0.0,
        "mse": mse,
        "kl_fwd": weight * k_fwd,
        "kl_rev": weight * k_rev,
        "mse+kl_rev": mse + weight * k_rev,
        "kl_diff": weight * abs(k_rev - k_fwd),
    }[name]


@pytest.mark.parametrize("name", ["none", "mse", "kl_fwd", "kl_rev", "mse+kl_rev", "kl_diff"])
def test_every_term_has_its_direction_and_its_mean(name):
    generator = torch.Generator().manual_seed(1)
    z, z_g = (3 * torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = term(name, 7.0, z.numpy(), z_g.numpy())
    np.testing.assert_allclose(distance(name, 7.0, z, z_g).item(), expected, rtol=1e-12)
    assert abs(kl_elements(z.numpy(), z_g.numpy()) - kl_elements(z_g.numpy(), z.numpy())) > 0.01


def test_the_difference_of_kls_is_taken_over_the_batch_and_is_no_divergence():
    one = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
    other = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert distance("kl_diff", 1.0, one, other) > 1e-3
    # Two images whose differences cancel: the term of the batch is zero although no output agrees.
    both = torch.cat([one, other]), torch.cat([other, one])
    assert abs(distance("kl_diff", 1.0, *both)) < 1e-15


@pytest.mark.parametrize(("rescale", "classes"), [(False, 5), (True, 5), (False, 20), (True, 20)])
def test_released_loss_gradients_and_statistics_of_both_networks(rescale, classes, stage, formulas):
    s = stage(D2R(rescale=rescale), num_classes=classes)
    loss, seen = s.loss()
    z_adv, z, z_g = s.twin.target(seen.x_adv), s.twin.target(s.batch.x), s.twin.guide(s.batch.x)
    size, scale = len(z) * classes, classes / 10 if rescale else 1.0
    k1, k2 = formulas.kl(z, z_g).sum() / size, formulas.kl(z_g, z).sum() / size
    k5, mse = formulas.kl(z_adv, z_g).sum() / size, ((z_adv - z_g) ** 2).sum() / size
    guide = formulas.ce(z_g, s.batch.y).mean()
    reference = guide + mse + 20 * scale * (k1 - k2).abs() + 30 * scale * k5
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


@pytest.mark.parametrize("adv_term", ["mse", "kl_fwd", "kl_rev", "mse+kl_rev"])
@pytest.mark.parametrize("clean_term", ["none", "kl_diff", "kl_fwd", "kl_rev", "mse"])
def test_the_function_space(adv_term, clean_term, stage):
    s = stage(D2R(adv_term=adv_term, clean_term=clean_term, adv_weight=3.0, clean_weight=2.0))
    loss, seen = s.loss()
    with torch.no_grad():
        z_adv, z = s.twin.target(seen.x_adv).numpy(), s.twin.target(s.batch.x).numpy()
        z_g = s.twin.guide(s.batch.x).numpy()
    p = np.exp(z_g) / np.exp(z_g).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(len(p)), s.batch.y.numpy()]).mean()
    expected += term(adv_term, 3.0, z_adv, z_g) + term(clean_term, 2.0, z, z_g)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("mse", {"adv_term": "mse", "clean_term": "none"}),
        ("difference", {"adv_term": "kl_rev", "adv_weight": 0.0}),
        ("k5", {"adv_term": "kl_rev", "clean_term": "none"}),
    ],
)
def test_the_guide_gets_gradient_from_each_part(part, options, stage, formulas):
    """The collaboration: nothing is detached, so MSE, |k1 - k2| and k5 all move the guide."""
    s = stage(D2R(**options))
    _, seen = s.loss()
    z_adv, z, z_g = s.twin.target(seen.x_adv).detach(), s.twin.target(s.batch.x).detach(), s.twin.guide(s.batch.x)
    k1, k2 = formulas.kl(z, z_g).mean() / 5, formulas.kl(z_g, z).mean() / 5
    extra = {
        "mse": ((z_adv - z_g) ** 2).mean(),
        "difference": 20 * (k1 - k2).abs(),
        "k5": 30 * formulas.kl(z_adv, z_g).mean() / 5,
    }[part]
    parameters = list(s.twin.guide.parameters())
    pulled = torch.autograd.grad(extra, parameters, retain_graph=True)
    alone = torch.autograd.grad(formulas.ce(z_g, s.batch.y).mean(), parameters)
    assert pulled[0].norm() > 1e-3
    for ours, first, second in zip(s.nets.guide.parameters(), alone, pulled, strict=True):
        torch.testing.assert_close(ours.grad, first + second)


def test_the_attack_leaves_the_clean_outputs_of_the_guide_that_is_trained_along(stage, formulas):
    s = stage(D2R())
    _, seen = s.loss()
    s.twin.eval()
    reference = s.twin.guide(s.batch.x).detach()
    s.assert_attack(seen, lambda x: formulas.kl(reference, s.twin.target(x)).sum(), "gaussian")


def test_a_step_costs_30_forwards_in_the_released_order(stage):
    s = stage(D2R(), steps=10)
    assert s.update() == 30
    assert s.order() == ["target(x_adv)", "target(x)", "guide(x)"]
    assert s.method.deployed(s.nets) is s.nets.target


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adv_term": "kl_diff"}, "adv_term must be one of mse, kl_fwd, kl_rev, mse"),
        ({"clean_term": "mse+kl_rev"}, "clean_term one of none, kl_diff"),
        ({"adv_weight": -1.0}, "must be 0 or more"),
        ({"clean_weight": float("nan")}, "must be 0 or more"),
    ],
)
def test_impossible_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        D2R(**options)
