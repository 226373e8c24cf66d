"""The parts of our AutoAttack engine, and what its exact mode promises: company changes nothing."""

import dataclasses

import numpy as np
import pytest
import torch
from pyautoattack.fab_projections import projection_l2, projection_linf
from pyautoattack.square import SquareAttack
from torch import nn

from advbench.benchmark.attacks.autoattack import apgd, engine, network_view, square
from advbench.benchmark.attacks.autoattack.projection import onto_hyperplane
from advbench.benchmark.attacks.autoattack.rows import Findings
from advbench.benchmark.attacks.wrapped_network import frozen
from advbench.benchmark.models.architectures import build
from advbench.benchmark.records.schema import STAGES

QUERIES = 60


@pytest.fixture
def points():
    """Points, normals with zeros and offsets: near, far and beyond the box's reach."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.rand((60, 48), generator=generator), torch.randn((60, 48), generator=generator)
    w[:, ::7] = 0
    distance = torch.randn(60, generator=generator) * torch.tensor([0.1, 3.0, 40.0]).repeat(20)
    return x, w, distance


@pytest.mark.parametrize(("norm", "reference"), [("linf", projection_linf), ("l2", projection_l2)])
def test_projection_is_that_of_the_reference(points, norm, reference):
    x, w, distance = points
    offset = (w.double() * x.double()).sum(dim=1) - distance.double()
    wanted = reference(x.double(), w.double(), offset)
    found = onto_hyperplane(x, w, distance, norm)
    torch.testing.assert_close(found, wanted.float(), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_of_what_lies_on_the_hyperplane_or_has_none(norm):
    x = torch.rand(2, 5)
    w = torch.stack([torch.ones(5), torch.zeros(5)])
    assert torch.equal(onto_hyperplane(x, w, torch.tensor([0.0, 1.0]), norm), torch.zeros(2, 5))


def test_checkpoints_are_those_of_the_paper():
    """p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06), times 100 iterations (Section 3.2)."""
    assert list(apgd.checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_squares_shrink_as_in_the_reference():
    reference = SquareAttack(None, p_init=0.8, n_queries=5000, resc_schedule=False)
    for query in range(0, square.QUERIES, 7):
        wanted = min(max(round((reference.p_selection(query) * 32 * 32) ** 0.5), 1), 32)
        assert square.side(query, 32, 32) == wanted


def test_findings_keep_the_clearest_of_several_rows_of_an_image():
    findings = Findings.none(torch.zeros(3, 1), tolerance=0.5)
    findings.add(torch.tensor([1, 1, 2]), torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0.1, 0.7, 0.2]))
    findings.add(torch.tensor([1]), torch.tensor([[9.0]]), torch.tensor([0.3]))
    assert findings.x_adv.flatten().tolist() == [0, 2, 3]
    assert findings.fooled.tolist() == [False, True, True]
    assert findings.settled.tolist() == [False, True, False]


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build("smallcnn", num_classes=10, channels=1)
        with torch.no_grad():
            for _ in range(20):
                made(torch.rand(64, 1, 8, 8))
            made.linear.weight *= 8
            made.eval().linear.bias -= made(torch.rand(64, 1, 8, 8)).mean(0)
        return made


@pytest.fixture(scope="module")
def images(net):
    """Images with the network's own answers as labels: small radii leave some and fool some."""
    x = torch.rand((24, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, net(x).argmax(1)


def proposals(net, images, index, attack, **settings):
    x, y = (tensor[index] for tensor in images)
    chosen = {"norm": "linf", "targets": 3, "mode": "exact", "seed": 0, "key": "key", "queries": QUERIES} | settings
    with frozen(net):
        view = network_view.prepare(net, images[0])
        return engine.propose(view, x, y, engine.Request(attack, images=index.tolist(), **chosen))


@pytest.mark.parametrize(("attack", "eps"), zip(STAGES, (0.01, 0.01, 0.01, 0.03), strict=True))
def test_exact_mode_knows_no_batch_no_order_and_no_shard(net, images, attack, eps):
    """The same images are fooled, by the same proposal unless several targets race to be the first."""
    everything = torch.arange(len(images[0]))
    whole = proposals(net, images, everything, attack, eps=eps)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(2))
    others = {
        "order": proposals(net, images, order, attack, eps=eps)[order.argsort()],
        "batch": proposals(net, images, everything, attack, eps=eps, capacity=11),
        "shard": torch.cat([proposals(net, images, part, attack, eps=eps) for part in everything.split(13)]),
    }
    fooled = (whole != images[0]).flatten(1).any(dim=1)
    assert 0 < fooled.sum() < len(fooled), "a fixture on which nothing happens shows nothing"
    for name, other in others.items():
        assert torch.equal((other != images[0]).flatten(1).any(dim=1), fooled), name
        if attack in {"apgd-ce", "square"}:
            assert torch.equal(other, whole), name


def test_folding_leaves_no_batch_norm_behind_a_convolution_and_the_logits(net, images):
    view = network_view.prepare(net, images[0])
    assert "folded" in view.description
    assert not any(isinstance(module, nn.BatchNorm2d) for module in view.network.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules()), "the network itself is left alone"
    with torch.no_grad():
        torch.testing.assert_close(view.logits(images[0]), net(images[0]), atol=1e-4, rtol=1e-4)


def test_the_view_does_not_depend_on_the_images(net, images):
    """Shards must agree on it: its tolerance decides when an image needs no further attack."""
    assert len({network_view.prepare(net, part).tolerance for part in images[0].split(7)}) == 1


class Branching(nn.Module):
    """A network whose graph depends on its input: it cannot be traced."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.flatten(1) if x.sum() > 0 else -x.flatten(1))


class Noisy(Branching):
    """A network that answers differently each time: no copy agrees with it."""

    def forward(self, x):
        return self.linear(x.flatten(1) + torch.rand(len(x), 64))


@pytest.mark.parametrize(("make", "description"), [(Branching, "channels last"), (Noisy, "as it is")])
def test_what_cannot_be_folded_is_run_as_it_is(make, description):
    assert network_view.prepare(make().eval(), torch.rand(4, 1, 8, 8)).description == description


def test_a_convolution_that_others_read_is_not_folded():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.linear = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

        def forward(self, x):
            features = self.conv(x)
            return self.linear((self.bn(features) + features).mean((2, 3)))

    shared = Shared()
    shared(torch.rand(8, 1, 8, 8))
    view = network_view.prepare(shared.eval(), torch.rand(4, 1, 8, 8))
    assert any(isinstance(module, nn.BatchNorm2d) for module in view.network.modules())


def test_few_rows_are_answered_as_in_company(net, images):
    view = dataclasses.replace(network_view.plain(net), fewest=network_view.FEWEST_ROWS)
    whole = view.logits(images[0])
    np.testing.assert_array_equal(torch.cat([view.logits(part) for part in images[0].split(1)]), whole)
    assert view.logits(images[0][:0]).shape == (0, 10)


def test_no_such_attack(net, images):
    for attack, norm in (("apgd", "linf"), ("square", "l2")):
        with pytest.raises(ValueError, match=r"attack|Attack"):
            proposals(net, images, torch.arange(2), attack, norm=norm, eps=0.1)
