"""Losses against SciPy and formulas: direction and reduction of each."""

import numpy as np
import pytest
import torch
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy

from advbench.benchmark import losses


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, 4, generator=generator, dtype=torch.float64) * 3 for _ in range(2)]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_is_from_the_reference_to_the_other(logits, temperature):
    reference, other = logits
    p, q = (scipy_softmax(z.numpy() / temperature, axis=1) for z in logits)
    each = np.array([entropy(a, b) for a, b in zip(p, q, strict=True)])
    np.testing.assert_allclose(losses.kl_each(reference, other, temperature), each, rtol=1e-10)
    np.testing.assert_allclose(losses.kl_sum(reference, other, temperature), each.sum(), rtol=1e-10)
    np.testing.assert_allclose(losses.kl_mean(reference, other, temperature), each.mean(), rtol=1e-10)
    np.testing.assert_allclose(losses.kl_elements(reference, other, temperature), each.mean() / 4, rtol=1e-10)
    assert not np.allclose(each, [entropy(b, a) for a, b in zip(p, q, strict=True)])


def test_kl_gives_gradient_to_both_sides(logits):
    reference, other = (z.clone().requires_grad_() for z in logits)
    losses.kl_sum(reference, other).backward()
    p, q = (scipy_softmax(z.detach().numpy(), axis=1) for z in (reference, other))
    np.testing.assert_allclose(other.grad, q - p, atol=1e-12)
    assert reference.grad.abs().max() > 0


def test_margin_is_above_zero_exactly_where_the_prediction_is_wrong(logits):
    z, _ = logits
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = [max(z[i, j].item() for j in range(4) if j != y[i]) - z[i, y[i]].item() for i in range(6)]
    np.testing.assert_allclose(losses.margin_each(z, y), expected)
    assert torch.equal(losses.margin_each(z, y) > 0, z.argmax(1) != y)


def test_cross_entropy_takes_labels_or_probabilities(logits):
    z, other = logits
    t = torch.softmax(other, 1)
    soft = -(t * torch.log_softmax(z, 1)).sum(1)
    np.testing.assert_allclose(losses.ce_mean(z, t), soft.mean())
    np.testing.assert_allclose(losses.ce_sum(z, t), soft.sum())
    np.testing.assert_allclose(losses.ce_each(z, t), soft)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    np.testing.assert_allclose(losses.ce_mean(z, y), -torch.log_softmax(z, 1)[torch.arange(6), y].mean())


def test_mse_is_the_mean_over_every_element(logits):
    np.testing.assert_allclose(losses.mse_elements(*logits), ((logits[0] - logits[1]) ** 2).numpy().mean())


def test_half_precision_logits_are_raised_before_they_are_compared(logits):
    """Two outputs that differ by a little: in bf16 the difference of their log-probabilities is mostly rounding."""
    reference, other = logits[0].bfloat16(), (logits[0] + 0.05 * logits[1]).bfloat16()
    exact = losses.kl_mean(reference.double(), other.double(), 30.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = losses.kl_mean(reference, other, 30.0)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.item(), exact.item(), rtol=0.01)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    results = (losses.ce_mean(reference, y), losses.mse_elements(reference, other), losses.softmax(other))
    assert all(loss.dtype == torch.float32 for loss in results)
