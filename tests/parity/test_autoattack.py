"""AutoAttack through the evaluator, image for image: against pyautoattack run directly and against RobustBench."""

import dataclasses
import importlib.util
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from sklearn.datasets import load_sample_images
from torch import nn

from advbench.benchmark.attacks.autoattack import seed_of
from advbench.benchmark.evaluation import evaluator
from advbench.benchmark.evaluation.evaluator import evaluate_shard
from advbench.benchmark.models import robustbench
from advbench.benchmark.protocol import Threat, published
from advbench.benchmark.records.schema import STAGES


@pytest.fixture(autouse=True)
def _same_tracer():
    """pyautoattack run by hand, as below, turns coverage off."""
    tracer = sys.gettrace()
    yield
    sys.settrace(tracer)


@pytest.fixture(scope="module")
def subject():
    with np.load(Path(__file__).parent / "fixtures" / "subject.npz") as file:
        arrays = dict(file)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(192, 10),
    )
    net.load_state_dict({name.partition(":")[2]: torch.from_numpy(a) for name, a in arrays.items() if ":" in name})
    return net.eval(), torch.from_numpy(arrays["x"])[:40], torch.from_numpy(arrays["y"])[:40]


def installed_or_skip():
    if importlib.util.find_spec("robustbench") is None:
        pytest.skip("robustbench is not installed")


def protocol_of(shard, eps):
    base = published()["digits-linf/1"]
    attacks = dataclasses.replace(base.attacks, shard=shard)
    return dataclasses.replace(base, name="parity/1", attacks=attacks, threat=Threat("linf", eps))


def right_on(net, x, y):
    with torch.no_grad():
        return net(x).argmax(1) == y


def test_each_attack_with_its_own_seed(subject):
    """What the protocol does, written down a second time with nothing but pyautoattack."""
    net, x, y = subject
    protocol, size = protocol_of(20, Fraction(3, 20)), 20
    x, y = x[size:], y[size:]
    ours = evaluate_shard(net, x, y, first=size, family="autoattack", protocol=protocol, seed=5)
    alive = right_on(net, x, y)
    for attack in STAGES:
        if alive.any():
            engine = AutoAttack(net, norm="Linf", eps=0.15, version="standard")
            engine.attacks_to_run, engine.verbose = [attack], False
            engine.seed = seed_of(protocol.digest, 5, attack, 1)
            x_adv, _ = engine.run_standard_evaluation(x[alive], y[alive], batch_size=size)
            alive[alive.clone()] = right_on(net, x_adv, y[alive])
        np.testing.assert_array_equal(ours.stages[attack], alive.numpy(), err_msg=attack)
    np.testing.assert_array_equal(ours.columns["autoattack"], alive.numpy())
    assert 0 < alive.sum() < size, "a fixture on which nothing happens shows nothing"


def test_one_seed_and_all_attacks_in_one_run(subject, monkeypatch):
    """With one seed for every attack our chain of single attacks is pyautoattack's own run, adversarial images too."""
    net, x, y = subject
    made = []
    propose = evaluator.autoattack.propose

    def keep(network, px, py, **kwargs):
        made.append((px, *propose(network, px, py, **kwargs)))
        return made[-1][1:]

    monkeypatch.setattr(evaluator.autoattack, "seed_of", lambda *_: 77)
    monkeypatch.setattr(evaluator.autoattack, "propose", keep)
    ours = evaluate_shard(net, x, y, first=0, family="autoattack", protocol=protocol_of(40, Fraction(3, 20)), seed=0)
    engine = AutoAttack(net, norm="Linf", eps=0.15, version="standard", seed=77)
    engine.verbose = False
    x_adv, _ = engine.run_standard_evaluation(x, y, batch_size=40)
    np.testing.assert_array_equal(ours.columns["autoattack"], right_on(net, x_adv, y).numpy())
    final = {tuple(image.flatten().tolist()): image for image in x}
    for px, proposal, _ in made:
        for image, one in zip(px, proposal, strict=True):
            if not torch.equal(image, one):
                final[tuple(image.flatten().tolist())] = one
    assert torch.equal(torch.stack([final[tuple(image.flatten().tolist())] for image in x]), x_adv)


@pytest.fixture(scope="module")
def photographs():
    """32-pixel patches of scikit-learn's two photographs, (24, 3, 32, 32) in [0,1]."""
    patches = []
    for photograph in load_sample_images().images:
        pixels = torch.from_numpy(photograph[::5, ::5].copy()).permute(2, 0, 1).float() / 255
        patches += [pixels[:, r : r + 32, c : c + 32] for r in (0, 32) for c in range(0, 96, 16)]
    return torch.stack(patches)


def fewer_queries(engine, version, set_version=AutoAttack._set_version):
    """Cut Square short on both sides alike: 5,000 queries at 32 pixels take a minute."""
    set_version(engine, version)
    engine.square.n_queries = 300


def test_robustbench_image_for_image(photographs, monkeypatch):
    """A network of RobustBench's zoo code through `robustbench.eval.benchmark`: one shard, its batch size and seed."""
    installed_or_skip()
    zoo = robustbench.robustbench("model_zoo.architectures.wide_resnet")
    torch.manual_seed(0)
    net = zoo.WideResNet(depth=10, num_classes=10, widen_factor=1).eval()
    with torch.no_grad():
        net.fc.bias -= net(photographs).mean(0)  # an untrained network says one class; centred, it says several
    x = photographs[[0, 9, 12]]
    y, size = net(x).argmax(1), len(x)
    y[2] = (y[2] + 1) % 10  # one is wrong from the start
    eps = Fraction(4, 1020)
    monkeypatch.setattr(evaluator.autoattack, "seed_of", lambda *_: 3)
    monkeypatch.setattr(AutoAttack, "_set_version", fewer_queries)
    ours = evaluate_shard(net, x, y, first=0, family="autoattack", protocol=protocol_of(size, eps), seed=0)
    theirs = robustbench.benchmark(net, x, y, eps=float(eps), batch_size=size, seed=3)
    assert theirs.clean == pytest.approx(float((ours.predictions == y.numpy()).mean()))
    assert theirs.robust == pytest.approx(ours.columns["autoattack"].mean())
    np.testing.assert_array_equal(ours.columns["autoattack"], right_on(net, theirs.x_adv, y).numpy())
    assert 0 < theirs.robust < theirs.clean, "a network on which nothing happens shows nothing"


def test_the_alias_does_not_outlive_the_import():
    installed_or_skip()
    before = {name: sys.modules.get(name) for name in ("autoattack", "autoattack.state")}
    assert robustbench.robustbench("eval").AutoAttack is robustbench.Original
    assert {name: sys.modules.get(name) for name in before} == before


def test_missing_robustbench_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(robustbench.BridgeError, match="pip install") as caught:
        robustbench.robustbench("nonexistent")
    assert "\n" not in str(caught.value)
