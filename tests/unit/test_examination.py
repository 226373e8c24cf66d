import dataclasses
import json
from fractions import Fraction

import pytest
import torch
from torch import nn

from advbench.benchmark.evaluation.evaluator import EvaluationError, evaluate_shard
from advbench.benchmark.evaluation.masking_probes import difference, unit_rows
from advbench.benchmark.protocol import Threat, published
from advbench.benchmark.records.outcomes import SHOWN, gather
from advbench.benchmark.records.shard_result import ShardResult

N = 12


@pytest.fixture
def protocol():
    digits = published()["digits-linf/1"]
    attacks = dataclasses.replace(digits.attacks, shard=N)
    return dataclasses.replace(digits, name="test/1", attacks=attacks, threat=Threat("linf", Fraction(1, 20)))


@pytest.fixture
def images():
    return torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)).eval()


class Trick(nn.Module):
    def __init__(self, net, trick):
        super().__init__()
        self.net = net
        self.trick = trick

    def forward(self, x):
        return self.trick(self.net, x)


def examine(net, x, protocol, y=None, **options):
    with torch.no_grad():
        y = net(x).argmax(1) if y is None else y
    return evaluate_shard(net, x, y, first=0, family="examination", protocol=protocol, seed=0, **options)


def test_an_honest_network(net, images, protocol):
    result = examine(net, images, protocol)
    evidence = result.evidence
    assert evidence["images"] == evidence["examined"] == N
    for key in ("random_images", "batch_dependent_images", "probability_rows", "large_eps_survivors"):
        assert evidence[key] == 0, key
    for key in ("not_finite_clean", "not_finite_near", "zero_clean", "zero_near"):
        assert evidence[f"gradient_{key}"] == 0, key
    assert result.columns == {}
    again = ShardResult.from_plain(json.loads(json.dumps(result.to_plain(), allow_nan=False)))
    assert again.evidence == evidence


def test_cost(net, images, protocol):
    """The cost that the module states: 72 forwards, 52 input gradients an image, 8 single forwards a shard."""
    passes = examine(net, images, protocol).passes
    assert passes.forward == 72 * N + 8
    assert passes.input_gradient == 52 * N
    assert passes.weight_gradient == 0
    with_peer = examine(net, images, protocol, peers={"itself": net}).passes
    assert with_peer.forwards - passes.forwards == 41 * N


def test_only_correct_images_count(net, images, protocol):
    y = net(images).argmax(1)
    y[:4] = (y[:4] + 1) % 5
    evidence = examine(Trick(net, lambda net, x: net(x.detach())), images, protocol, y).evidence
    assert evidence["examined"] == N - 4
    assert evidence["gradient_zero_clean"] == evidence["gradient_zero_near"] == N - 4
    assert evidence["gradient_zero_clean_at"] == list(range(4, N))
    wrong = examine(net, images, protocol, (net(images).argmax(1) + 1) % 5).evidence
    assert (wrong["examined"], wrong["large_eps_survivors"], wrong["noise_right"]) == (0, 0, 0)


def test_gradients_that_vanish_only_near_the_image(net, images, protocol):
    """Zero gradients everywhere but on a grid: looking at the clean image alone would miss it."""
    grid = (images * 16).round() / 16

    def off_grid(net, x):
        odd = ((16 * x - (16 * x).round()).abs().flatten(1).amax(1) > 1e-3)[:, None, None, None]
        return net(torch.where(odd, x.detach(), x))

    evidence = examine(Trick(net, off_grid), grid, protocol).evidence
    assert evidence["gradient_zero_clean"] == 0
    assert evidence["gradient_zero_near"] == N


def test_transfer_counts(net, images, protocol):
    protocol = dataclasses.replace(protocol, threat=Threat("linf", Fraction(1, 2)))
    killed = Trick(net, lambda net, x: net(x.detach()))
    evidence = examine(killed, images, protocol, peers={"copy": net, "killed": killed}).evidence
    assert evidence["transfer_right:copy"] < evidence["transfer_right:killed"]


def test_a_network_that_refuses_a_batch_size(net, images, protocol):
    def fixed(net, x):
        return net(x) if len(x) == N else net(x.reshape(7, 1, 6, 6))

    with pytest.raises(EvaluationError, match="does not take images") as caught:
        examine(Trick(net, fixed), images, protocol)
    assert "\n" not in str(caught.value)


def test_differences_of_tiny_logits_are_seen():
    tiny = torch.tensor([[1e-40, 2e-40], [1e-40, 2e-40]])
    other = torch.tensor([[2e-40, 1e-40], [1e-40, 2e-40]])
    apart = difference(unit_rows(tiny), unit_rows(other))
    assert apart[0] > 0.5
    assert apart[1] == 0


def test_rows_that_are_not_finite():
    odd = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0], [1.0, 2.0]])
    even = torch.tensor([[float("nan"), 3.0], [2.0, 1.0], [1.0, 2.0]])
    assert difference(unit_rows(odd), unit_rows(even)).tolist() == [0.0, 2.0, 0.0]


def test_evidence_of_shards_adds_up(net, images, protocol):
    killed = Trick(net, lambda net, x: net(x.detach()))
    first = examine(killed, images, protocol)
    second = dataclasses.replace(first, first=N)
    together = gather([first, second])
    assert together["examined"] == 2 * N
    assert together["gradient_zero_clean"] == 2 * N
    assert len(together["gradient_zero_clean_at"]) == SHOWN
    assert together["max_batch_difference"] == first.evidence["max_batch_difference"]
