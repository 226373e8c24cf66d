"""Windows of images that change: the same logits as from whole images, from fewer multiplications."""

import pytest
import torch
from torch import nn

from advbench.benchmark.attacks.autoattack import incremental, network_view
from advbench.benchmark.attacks.autoattack.incremental import Incremental, Window
from advbench.benchmark.models.architectures import build
from advbench.benchmark.models.networks import BasicBlock, PreActBlock, conv3x3, pool, stage

WINDOWS = [(7, 0, 0), (7, 25, 25), (5, 3, 27), (4, 12, 9), (1, 31, 0)]


class Residual(nn.Module):
    """Blocks of a kind behind a normalisation and a dilated, padded stem."""

    def __init__(self, block):
        super().__init__()
        self.register_buffer("mean", torch.rand(3, 1, 1))
        self.stem = nn.Conv2d(3, 8, 5, padding=4, dilation=2)
        self.layer1 = stage(block, 8, 8, blocks=2, stride=1)
        self.layer2 = stage(block, 8, 16, blocks=2, stride=2)
        self.last = conv3x3(16, 8)
        self.linear = nn.Linear(8, 10)

    def forward(self, x):
        return self.linear(pool(self.last(self.layer2(self.layer1(self.stem((x - self.mean) / 2))))))


class Branching(nn.Module):
    """A network that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x):
        return self.linear(x.flatten(1) if x.sum() > 0 else -x.flatten(1))


MAKERS = {
    "smallcnn": lambda: build("smallcnn", num_classes=10, channels=3),
    "preact": lambda: Residual(PreActBlock),
    "basic": lambda: Residual(BasicBlock),
    "branching": Branching,
}


@pytest.fixture(scope="module", params=MAKERS)
def subject(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, images = MAKERS[request.param](), torch.rand(9, 3, 32, 32)
        net(images)
        return request.param, network_view.prepare(net.eval(), images), images


@pytest.mark.parametrize(("side", "top", "left"), WINDOWS)
def test_a_window_gives_the_logits_of_the_whole_image(subject, side, top, left, monkeypatch):
    name, view, images = subject
    monkeypatch.setattr(incremental, "_LEAST_SAVED", 0)
    asked, window, rows = Incremental(view, images.clone()), Window(top, left, side, side), torch.tensor([1, 4, 5, 8])
    torch.testing.assert_close(asked.begin(side), view.logits(images), atol=1e-5, rtol=1e-5)
    assert any(node.layer for node in asked.nodes.values()) == (name != "branching")

    def change(which, where, pixels):
        changed = asked.images.clone()
        for row, pixel in zip(which.tolist(), pixels, strict=True):
            where.of(changed)[row] = pixel
        return changed[which]

    pixels = torch.rand(4, 3, side, side)
    wanted = change(rows, window, pixels)
    torch.testing.assert_close(asked.ask(window, pixels, rows), view.logits(wanted), atol=1e-5, rtol=1e-5)
    before = asked.images.clone()
    asked.accept(rows[:2], torch.tensor([0, 1]))
    assert torch.equal(asked.images[rows[:2]], wanted[:2])
    assert torch.equal(asked.images[5:], before[5:]), "what was not accepted is as it was"
    asked.retain(torch.arange(9) % 2 == 0)
    rest, other = torch.arange(5), Window(31 - top if side == 1 else 2, 5, side, side)
    pixels = torch.rand(5, 3, side, side)
    wanted = change(rest, other, pixels)
    torch.testing.assert_close(asked.ask(other, pixels, rest), view.logits(wanted), atol=1e-5, rtol=1e-5)


def test_a_layer_that_writes_into_its_input_is_left_alone():
    class Inplace(Residual):
        def forward(self, x):
            features = self.stem(x)
            features += self.layer1(features)
            return self.linear(pool(features))

    torch.manual_seed(0)
    images, window, rows = torch.rand(9, 3, 32, 32), Window(4, 4, 3, 3), torch.arange(9)
    view = network_view.prepare(Inplace(PreActBlock).eval(), images)
    asked, pixels = Incremental(view, images.clone()), torch.rand(9, 3, 3, 3)
    asked.begin(3)
    first = asked.ask(window, pixels, rows)
    asked.accept(rows, rows)
    torch.testing.assert_close(first, view.logits(asked.images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(asked.ask(window, pixels, rows), first, atol=1e-5, rtol=1e-5)
