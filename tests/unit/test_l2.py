import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from advbench.benchmark.attacks import autoattack_versions, l2, random_starts
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.evaluation.evaluator import evaluate_shard
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.protocol import Threat, published

EPS = 0.5


def norms(difference):
    return difference.double().flatten(1).norm(dim=1)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(64, 1, 6, 6, generator=generator)


@pytest.mark.parametrize("reach", [0.01, 0.49, 0.51, 3.0])
def test_projection_is_in_the_ball_and_in_the_unit_range(images, reach):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    proposal = images + reach * noise / norms(noise).view(-1, 1, 1, 1).float()
    kept = l2.project(proposal, images, EPS)
    assert (norms(kept - images) <= EPS * (1 + l2.ROUNDING)).all()
    assert kept.min() >= 0
    assert kept.max() <= 1
    if reach < EPS:
        assert torch.equal(kept, (images + (proposal - images)).clamp(0, 1)), "what is inside stays"


def test_projection_agrees_with_numpy_where_nothing_is_clipped(images):
    x = 0.5 * torch.ones_like(images)
    proposal = images.double()
    kept = l2.project(proposal.float(), x, EPS).numpy().astype(np.float64)
    difference = proposal.numpy() - 0.5
    length = np.sqrt((difference**2).sum(axis=(1, 2, 3), keepdims=True))
    expected = 0.5 + difference * np.minimum(1, EPS / length)
    np.testing.assert_allclose(kept, expected, atol=1e-6)


def test_starts_fill_the_ball_uniformly():
    """In d dimensions the share of points within r of the centre is (r/eps)^d; nothing is clipped at grey images."""
    n, shape = 4000, (1, 2, 2)
    unit = random_starts.uniform("digest", "pgd", range(n), shape)
    radius = random_starts.uniform("digest", "pgd", range(n), (1,), draw=1).flatten()
    x = 0.5 * torch.ones(n, *shape)
    difference = l2.start(x, unit, radius, EPS) - x
    lengths = norms(difference)
    for share in (0.25, 0.5, 0.75):
        within = (lengths <= EPS * share ** (1 / 4)).double().mean()
        assert within == pytest.approx(share, abs=0.03)
    assert difference.flatten(1).mean(dim=0).abs().max() < 0.02, "no direction is preferred"


def test_ascent_on_a_linear_network_is_the_best_there_is(images):
    """For logits w·x the strongest point of the ball is x − eps·w/|w|, while nothing is clipped."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()
    x = (0.4 + 0.2 * images).double()
    y = torch.zeros(len(x), dtype=torch.int64)
    x_adv = l2.ascend(x, x, lambda z: ce_sum(net(z), y), eps=0.3, step=0.1, steps=10)
    weights = (net[1].weight[1] - net[1].weight[0]).detach()
    expected = x + 0.3 * (weights / weights.norm()).view(1, 1, 6, 6)
    torch.testing.assert_close(x_adv, expected, atol=1e-6, rtol=0)


def test_a_gradient_of_zero_moves_nothing(images):
    x_adv = l2.ascend(images, images, lambda z: (0 * z).sum(), eps=EPS, step=0.1, steps=3)
    assert torch.equal(x_adv, images)


def test_autoattack_stays_in_the_ball(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).eval()
    x = images[:8]
    y = net(x).argmax(1)
    proposal, _ = autoattack_versions.propose_l2(net, x, y, eps=EPS, attack="apgd-ce", seed=1, num_classes=5)
    assert (norms(proposal - x) <= EPS * (1 + 1e-4)).all()
    assert (net(proposal).argmax(1) != y).any()
    again, _ = autoattack_versions.propose_l2(net, x, y, eps=EPS, attack="apgd-ce", seed=1, num_classes=5)
    assert torch.equal(proposal, again)


def test_a_protocol_in_l2_is_attacked_in_l2(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).eval()
    x = images[:16]
    y = net(x).argmax(1)
    near, far = (
        dataclasses.replace(published()["digits-l2/1"], threat=Threat("l2", Fraction(eps))) for eps in ("1/10", "3")
    )
    results = {
        family: evaluate_shard(net, x, y, first=0, family=family, protocol=protocol, seed=1)
        for family, protocol in (("pgd", near), ("cw", near), ("examination", near), ("autoattack", far))
    }
    settings = [part for result in results.values() for part in result.settings.values() if "norm" in part]
    assert {part["norm"] for part in settings} == {"l2"}
    assert 0 < results["pgd"].columns["pgd20"].sum() < 16, "the radius bites and leaves something"
    assert not results["autoattack"].columns["autoattack"].any(), "half of the diameter fools everything"
    assert results["examination"].evidence["large_eps_survivors"] == 0


def test_distances_are_those_of_the_norm():
    x = torch.zeros(1, 1, 2, 2)
    moved = torch.tensor([[[[0.3, 0.0], [0.0, 0.4]]]])
    assert Ball("linf", 1).distance(moved, x).item() == pytest.approx(0.4)
    assert Ball("l2", 1).distance(moved, x).item() == pytest.approx(0.5)
