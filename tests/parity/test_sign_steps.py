"""PGD and CW per image against foolbox and torchattacks; fixtures/README.md says how theirs were made."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from advbench.benchmark.attacks import pgd
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.attacks.wrapped_network import View, frozen
from advbench.benchmark.evaluation.arena import predicted
from advbench.benchmark.losses import ce_sum

FIXTURES = Path(__file__).parent / "fixtures"
EPS, STEP = 0.15, 0.0375
BALL = Ball("linf", EPS)
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@pytest.fixture(scope="module")
def subject():
    with np.load(FIXTURES / "subject.npz") as file:
        arrays = dict(file)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(192, 10),
    )
    weights = {name.partition(":")[2]: torch.from_numpy(array) for name, array in arrays.items() if ":" in name}
    net.load_state_dict(weights)
    return net.eval(), *(torch.from_numpy(arrays[name]) for name in ("x", "y", "noise"))


def loss_at(net, y, loss, x_adv):
    return loss(net(x_adv), y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("package", ["foolbox", "torchattacks"])
def test_same_images_same_outcomes(subject, package, dtype):
    net, x, y, noise = subject
    net, x, noise = net.to(DTYPES[dtype]), x.to(DTYPES[dtype]), noise.to(DTYPES[dtype])
    view, start = View(net), pgd.start(x, noise / EPS, EPS)
    with frozen(net):
        pgd20, pgd100, margin = (
            BALL.ascend(x, start, partial(loss_at, view, y, loss), step=STEP, steps=steps)
            for loss, steps in ((ce_sum, 20), (ce_sum, 100), (margin_sum, 20))
        )
    with np.load(FIXTURES / f"{package}.npz") as theirs:
        for name, ours in {"pgd20": pgd20, "pgd100": pgd100, "cw": margin}.items():
            with torch.no_grad():
                right = predicted(net(ours)) == y
            assert 10 < right.sum() < 50, "a fixture on which nothing happens shows nothing"
            np.testing.assert_array_equal(right.numpy(), theirs[f"{dtype}:{name}:right"])
            apart = np.abs(ours.numpy() - theirs[f"{dtype}:{name}:x_adv"])
            if dtype == "float64":
                assert apart.max() < 1e-12
            else:  # one pixel in a thousand may have a gradient so near zero that rounding decides its sign
                assert (apart > 1e-6).mean() < 1e-3


def test_the_other_loss_gives_other_images(subject):
    """The fixtures can tell the attacks apart: our PGD is not their CW."""
    net, x, y, noise = subject
    net = net.double()
    start = pgd.start(x.double(), noise.double() / EPS, EPS)
    ours = BALL.ascend(x.double(), start, partial(loss_at, net, y, ce_sum), step=STEP, steps=20)
    with np.load(FIXTURES / "foolbox.npz") as theirs:
        assert np.abs(ours.numpy() - theirs["float64:cw:x_adv"]).max() > STEP
