"""Under our own sharding and seeds a network of RobustBench's zoo code scores as `robustbench.eval.benchmark` says.

A WideResNet of the zoo's code, trained here on real CIFAR-10 until it is somewhat robust, and 1,000 test images: four
shards of 250, each attack with its own seed, against one run of RobustBench over all of them. At 1,000 images 0.1
points is one image. The radius is chosen so that few images survive: each costs AutoAttack 9,759 forwards, twice.
"""

import dataclasses
import os
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from advbench.benchmark.attacks.sign_ascent import sign_steps
from advbench.benchmark.data import registry
from advbench.benchmark.evaluation.evaluator import evaluate_shard
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models import robustbench
from advbench.benchmark.protocol import Threat, published
from advbench.benchmark.records.outcomes import merge

pytestmark = pytest.mark.soak
N, SHARD, EPS = 1000, 250, Fraction(10, 255)


@pytest.fixture(scope="module")
def cifar10():
    root = os.environ.get("ADVBENCH_DATA")
    if root is None:
        pytest.skip("set ADVBENCH_DATA to a folder that holds CIFAR-10")
    spec = dataclasses.replace(published()["cifar10-linf/1"].data, train_limit=6000, validation=200, test_limit=N)
    return registry.load(spec, root=Path(root), download=False)


@pytest.fixture(scope="module")
def network(cifar10):
    """PGD-AT with three steps for six epochs: enough that attacks have something to do."""
    torch.manual_seed(0)
    net = robustbench.robustbench("model_zoo.architectures.wide_resnet").WideResNet(
        depth=10, num_classes=10, widen_factor=1
    )
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    generator, eps, epochs = torch.Generator().manual_seed(0), 8 / 255, 6
    for epoch in range(epochs):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - epoch / epochs)
        for x, y, _ in cifar10.train.epoch(64, generator):
            start = x + eps * (2 * torch.rand(x.shape, generator=generator) - 1)
            x_adv = sign_steps(x, start, lambda z, y=y: ce_sum(net.eval()(z), y), eps=eps, step=eps / 2, steps=3)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net.train()(x_adv), y).backward()
            optimiser.step()
    return net.eval()


def test_within_a_tenth_of_a_point(network, cifar10):
    base = published()["cifar10-linf/1"]
    attacks = dataclasses.replace(base.attacks, shard=SHARD)
    protocol = dataclasses.replace(base, name="sharding/1", attacks=attacks, threat=Threat("linf", EPS))
    x, y, _ = next(iter(cifar10.test.batches(N)))
    results = {
        family: [
            evaluate_shard(
                network,
                x[first : first + SHARD],
                y[first : first + SHARD],
                first=first,
                family=family,
                protocol=protocol,
                seed=0,
            )
            for first in range(0, N, SHARD)
        ]
        for family in ("clean", "autoattack")
    }
    ours = merge(results, environment=None, n_test=N, num_classes=10, protocol=protocol)
    theirs = robustbench.benchmark(network, x, y, eps=float(EPS), batch_size=SHARD, seed=1)
    clean, robust = ours.accuracy("clean"), ours.accuracy("autoattack")
    print(f"clean {clean:.1%} and {theirs.clean:.1%}; robust {robust:.1%} and {theirs.robust:.1%}")
    assert clean == pytest.approx(theirs.clean)
    assert robust == pytest.approx(theirs.robust, abs=0.001 + 1e-9)
    assert 0.01 < robust < clean - 0.1, "a network on which nothing happens shows nothing"
