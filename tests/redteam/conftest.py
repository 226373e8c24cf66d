"""Digits, and small networks trained on them in a second: standard, PGD-AT and TRADES."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advbench.benchmark.attacks.sign_ascent import sign_steps
from advbench.benchmark.evaluation.evaluator import evaluate_shard, merge
from advbench.benchmark.protocol import published
from advbench.benchmark.records.flags import TrainingFacts

N, EPS = 360, 0.15
QUICK = ("clean", "pgd", "cw", "examination")


class Digits:
    """scikit-learn's digits in [0,1]: 360 test images, the rest for training."""

    def __init__(self):
        pixels, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        x = torch.from_numpy((pixels[order] / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
        y = torch.from_numpy(labels[order]).long()
        self.x, self.y, self.x_train, self.y_train = x[:N], y[:N], x[N:], y[N:]


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def train(digits, kind, seed, *, epochs=10, images=None):
    """Train with PGD-5; `images` limits the training set."""
    torch.manual_seed(seed)
    net, draws = network(), torch.Generator().manual_seed(seed)
    x_train, y_train = digits.x_train[:images], digits.y_train[:images]
    steps = epochs * (len(x_train) // 128)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=steps, pct_start=0.4, cycle_momentum=False
    )
    for _ in range(epochs):
        for index in torch.randperm(len(x_train), generator=draws)[: steps // epochs * 128].split(128):
            x, y = x_train[index], y_train[index]
            net.eval()
            clean = F.softmax(net(x), 1).detach()
            objective = {
                "pgd_at": lambda z, y=y: F.cross_entropy(net(z), y, reduction="sum"),
                "trades": lambda z, p=clean: F.kl_div(F.log_softmax(net(z), 1), p, reduction="sum"),
            }
            if kind != "standard":
                start = (x + EPS * (2 * torch.rand(x.shape, generator=draws) - 1)).clamp(0, 1)
                x_adv = sign_steps(x, start, objective[kind], eps=EPS, step=EPS / 3, steps=5)
            net.train()
            if kind == "trades":
                logits, attacked = net(x), net(x_adv)
                divergence = F.kl_div(F.log_softmax(attacked, 1), F.softmax(logits, 1), reduction="batchmean")
                loss = F.cross_entropy(logits, y) + 6 * divergence
            else:
                loss = F.cross_entropy(net(x if kind == "standard" else x_adv), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def folded(net):
    """The same function in fewer modules: AutoAttack on digits spends its time between the operations."""
    modules, out = list(net), []
    for module, after in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(after, nn.BatchNorm2d):
            out.append(fuse_conv_bn_eval(module, after))
        elif not isinstance(module, nn.BatchNorm2d):
            out.append(module)
    return nn.Sequential(*out).eval()


@pytest.fixture(scope="session")
def with_norms(digits):
    """The standard network with its batch norm."""
    return train(digits, "standard", 0)


@pytest.fixture(scope="session")
def digits():
    return Digits()


@pytest.fixture(scope="session")
def trained(digits):
    """trained(kind, seed, **how) → network, its batch norm folded into the convolutions; trained once a process."""
    return cache(lambda kind, seed=0, **how: folded(train(digits, kind, seed, **how)))


@pytest.fixture(scope="session")
def protocol():
    """The attacks of the digits board with the board's engine.

    The first version does not ask for convergence, which would take longer than everything else here;
    tests/unit/test_convergence.py looks at it.
    """
    known = published()
    engine = known["digits-linf-full/2"].attacks.engine
    attacks = dataclasses.replace(known["digits-linf-full/1"].attacks, engine=engine)
    return dataclasses.replace(known["digits-linf-full/1"], name="redteam/1", attacks=attacks)


@pytest.fixture(scope="session")
def examine(digits, protocol):
    """Evaluate a network on 360 digits and return the evaluation."""

    def run(net, *, autoattack=False, training=None, **options):
        families = (*QUICK, "autoattack") if autoattack else QUICK
        shards = {
            family: [
                evaluate_shard(net, digits.x, digits.y, first=0, family=family, protocol=protocol, seed=0, **options)
            ]
            for family in families
        }
        training = training or TrainingFacts(robust=True, selection="validation-pgd")
        return merge(shards, environment=None, n_test=N, num_classes=10, protocol=protocol, training=training)

    return run


@pytest.fixture(scope="session")
def raised():
    """Names of the raised flags of a kind."""

    def names(evaluation, kind="masking"):
        return {flag.name for flag in evaluation.flags if flag.state == "raised" and flag.kind == kind}

    return names
