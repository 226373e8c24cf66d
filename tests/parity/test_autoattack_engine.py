"""Our AutoAttack engine against pyautoattack, image for image, attack for attack, on the survivors of each."""

import dataclasses
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from advbench.benchmark.attacks.autoattack import engine, network_view
from advbench.benchmark.attacks.autoattack.square import side
from advbench.benchmark.attacks.wrapped_network import frozen
from advbench.benchmark.evaluation import evaluator
from advbench.benchmark.evaluation.arena import ThreatModel
from advbench.benchmark.models.architectures import build
from advbench.benchmark.models.networks import PreActBlock, conv3x3, pool, stage
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import published
from advbench.benchmark.records.schema import STAGES
from advbench.benchmark.records.shard_result import EvaluationError

QUERIES, TARGETS, IMAGES = 100, 2, 16
EPS = {"plain": (0.14, 0.7), "smallcnn": (0.16, 0.8), "preact": (0.13, 0.65)}  # L∞, L2
SEED = 5
CASES = [("plain", "linf"), ("smallcnn", "linf"), ("preact", "linf"), ("preact", "l2")]


class SmallPreAct(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = conv3x3(1, 8)
        self.layer1 = stage(PreActBlock, 8, 8, blocks=1, stride=1)
        self.layer2 = stage(PreActBlock, 8, 16, blocks=1, stride=2)
        self.bn = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16, 10)

    def forward(self, x):
        return self.linear(pool(torch.relu(self.bn(self.layer2(self.layer1(self.conv1(x)))))))


@pytest.fixture(autouse=True)
def _same_tracer():
    """pyautoattack turns coverage off."""
    tracer = sys.gettrace()
    yield
    sys.settrace(tracer)


@pytest.fixture(scope="module")
def fixture():
    with np.load(Path(__file__).parent / "fixtures" / "subject.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def images(fixture):
    return torch.from_numpy(fixture["x"])[:IMAGES], torch.from_numpy(fixture["y"])[:IMAGES]


@pytest.fixture(scope="module")
def nets(fixture, images):
    """A trained network without batch norm, and a SmallCNN and a small PreActResNet taught for a second."""
    plain = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(192, 10),
    )
    plain.load_state_dict({k.partition(":")[2]: torch.from_numpy(a) for k, a in fixture.items() if ":" in k})
    found = {"plain": plain.eval()}
    makers = {"smallcnn": lambda: build("smallcnn", num_classes=10, channels=1), "preact": SmallPreAct}
    with torch.random.fork_rng():
        for name, make in makers.items():
            torch.manual_seed(0)
            found[name] = taught(make(), *images)
    return found


def taught(net, x, y):
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for _ in range(60):
        noisy = (x + 0.15 * (2 * torch.rand_like(x) - 1).sign()).clamp(0, 1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(noisy), y).backward()
        optimizer.step()
    return net.eval()


def right(net, x, y):
    with torch.no_grad():
        return net(x).argmax(1) == y


def theirs(net, images, attack, eps, norm="linf"):
    x, y = images
    reference = AutoAttack(net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, seed=SEED, version="standard")
    reference.apgd_targeted.n_target_classes = reference.fab.n_target_classes = TARGETS
    reference.verbose, reference.attacks_to_run, reference.square.n_queries = False, [attack], QUERIES
    return reference.run_standard_evaluation(x, y, batch_size=len(x))[0]


def request(attack, n, eps, norm="linf", mode="reference"):
    return engine.Request(attack, norm, eps, TARGETS, mode, SEED, "key", range(n), queries=QUERIES)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_survivors_of_every_attack(nets, images, name, norm):
    """With our fastest view of the network the same images survive each attack."""
    net, (x, y) = nets[name], images
    alive, fell = right(net, x, y), 0
    radius = EPS[name][norm == "l2"]
    with frozen(net):
        view = network_view.prepare(net, x)
        for attack in STAGES if norm == "linf" else STAGES[:3]:
            px, py = x[alive], y[alive]
            wanted = right(net, theirs(net, (px, py), attack, radius, norm), py)
            x_adv = engine.propose(view, px, py, request(attack, len(px), radius, norm))
            np.testing.assert_array_equal(right(net, x_adv, py), wanted, err_msg=attack)
            size = (x_adv - px).flatten(1).norm(torch.inf if norm == "linf" else 2, dim=1)
            assert size.max() <= radius + 1e-6
            fell += int((~wanted).sum())
            alive[alive.clone()] = wanted
    assert fell > 0
    assert alive.any(), "a fixture on which nothing happens shows nothing"


@pytest.mark.parametrize(("attack", "eps"), [("fab-t", 0.13), ("square", 0.2)])
def test_an_attack_from_the_clean_image(nets, images, attack, eps):
    """Over all images, not what others left, and on the network as it is: FAB and Square have something to find."""
    net, (x, y) = nets["preact"], images
    with frozen(net):
        wanted = right(net, theirs(net, images, attack, eps), y)
        found = right(net, engine.propose(network_view.plain(net), x, y, request(attack, len(x), eps)), y)
        np.testing.assert_array_equal(found, wanted)
    assert 0 < wanted.sum() < len(x)


PASSES = {"apgd-ce": 1 + 202, "apgd-t": 1 + TARGETS * 202}


@pytest.mark.parametrize("mode", ["reference", "exact"])
@pytest.mark.parametrize(("attack", "passes"), PASSES.items())
def test_passes_of_a_survivor(nets, images, attack, passes, mode):
    """What an image costs that nothing fools: the reference's floor without its repeated clean passes."""
    net, (x, y) = nets["smallcnn"], images
    x, y = x[right(net, x, y)], y[right(net, x, y)]
    ledger = Ledger()
    with frozen(net), ledger.differentiating("input"):
        view = network_view.prepare(net, x)
        ledger.watch(view.outlet)
        engine.propose(view, x, y, request(attack, len(x), 1e-6, mode=mode))
    assert ledger.passes.forwards == passes * len(x)
    assert ledger.passes.input_gradient == passes // 2 * len(x)
    assert ledger.passes.weight_gradient == 0


def test_passes_of_square(nets, images):
    """At most the reference's queries and one pass for each size of squares: what is known is not asked again."""
    net, (x, y) = nets["smallcnn"], images
    x, y = x[right(net, x, y)], y[right(net, x, y)]
    ledger, sizes = Ledger(), len({side(query, 8, 8) for query in range(QUERIES)})
    with frozen(net):
        view = network_view.prepare(net, x)
        ledger.watch(view.outlet)
        engine.propose(view, x, y, request("square", len(x), 1e-3))
    assert 0.2 * QUERIES * len(x) < ledger.passes.forward < (1 + sizes + QUERIES) * len(x)
    assert ledger.passes.forwards == ledger.passes.forward


def test_passes_of_fab(nets, images):
    """About three passes an iteration and target, as in the reference, which adds two for weights."""
    net, (x, y) = nets["smallcnn"], images
    x, y = x[right(net, x, y)], y[right(net, x, y)]
    ledger = Ledger()
    with frozen(net), ledger.differentiating("input"):
        view = network_view.prepare(net, x)
        ledger.watch(view.outlet)
        engine.propose(view, x, y, request("fab-t", len(x), 1e-6))
    assert ledger.passes.forwards <= 1.1 * TARGETS * 300 * len(x)
    assert ledger.passes.weight_gradient == 0


def evaluated(net, images, engine_name, eot=0, named="pyautoattack"):
    digits = published()["digits-linf/1"]
    protocol = dataclasses.replace(digits, attacks=dataclasses.replace(digits.attacks, engine=named))
    threat = ThreatModel("linf", Fraction(13, 100), eot)
    run = partial(evaluator.evaluate_shard, family="autoattack", first=0, seed=0, threat=threat)
    return run(net, *images, protocol=protocol, autoattack_by=engine_name)


def test_the_evaluator_runs_the_engine_it_is_told_or_that_of_the_protocol(nets, images, monkeypatch):
    """Stage for stage as with pyautoattack, and the record says who attacked."""
    monkeypatch.setattr(evaluator.engine, "Request", partial(engine.Request, queries=QUERIES))
    set_version = AutoAttack._set_version

    def fewer_queries(theirs, version):
        set_version(theirs, version)
        theirs.square.n_queries = QUERIES

    monkeypatch.setattr(AutoAttack, "_set_version", fewer_queries)
    some = tuple(tensor[:6] for tensor in images)
    results = {name: evaluated(nets["preact"], some, name) for name in ("pyautoattack", "reference")}
    results["exact"] = evaluated(nets["preact"], tuple(tensor[:3] for tensor in some), None, named="exact")
    part = evaluated(nets["preact"], tuple(tensor[:1] for tensor in some), None, named="exact")
    for attack in STAGES:
        np.testing.assert_array_equal(part.stages[attack], results["exact"].stages[attack][:1], "company matters")
    for attack in STAGES:
        np.testing.assert_array_equal(results["reference"].stages[attack], results["pyautoattack"].stages[attack])
    assert 0 < results["reference"].columns["autoattack"].sum() < 6
    for name in ("reference", "exact"):
        assert f"{name} mode" in results[name].settings["autoattack"]["engine"]
        assert "folded" in results[name].settings["autoattack"]["network"]
        assert results[name].costs["apgd-ce"].passes.forwards > 0
    with pytest.raises(EvaluationError, match="EOT"):
        evaluated(nets["preact"], some, "exact", eot=4)


@pytest.mark.parametrize("family", ["pgd", "cw"])
def test_the_protocols_engine_lends_its_view_to_gradient_ascent(nets, images, family, monkeypatch):
    """The same outcomes at the same passes as on the network itself, and the record says what was attacked."""
    digits = published()["digits-linf/1"]
    protocol = dataclasses.replace(digits, attacks=dataclasses.replace(digits.attacks, engine="exact"))
    threat = ThreatModel("linf", Fraction(13, 100))

    def run():
        return evaluator.evaluate_shard(
            nets["preact"], *images, first=0, family=family, protocol=protocol, seed=0, threat=threat
        )

    on_view = run()
    monkeypatch.setattr(network_view, "prepare", lambda network, _x: network_view.plain(network))
    on_network = run()
    for name, outcome in on_network.columns.items():
        assert 0 < outcome.sum() < len(outcome)
        np.testing.assert_array_equal(on_view.columns[name], outcome)
        assert on_view.costs[name].passes == on_network.costs[name].passes
        assert "folded" in on_view.settings[name]["network"]
        assert on_network.settings[name]["network"] == "as it is"
