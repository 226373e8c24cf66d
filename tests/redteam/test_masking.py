"""Defenses that mask gradients or cheat: each must be caught by the flag that names what it does."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advbench.benchmark.evaluation.evaluator import EvaluationError


class Defense(nn.Module):
    """A network behind a trick: `trick(net, x)` gives the logits."""

    def __init__(self, net, trick):
        super().__init__()
        self.net = net
        self.trick = trick

    def forward(self, x):
        return self.trick(self.net, x)


def kill_gradient(net, x):
    return net(x.detach())


def quantise(net, x):
    return net((x * 4).round() / 4)


def softmax(net, x):
    return net(x).softmax(1)


def add_noise(net, x):
    return net(x + 0.1 * torch.randn_like(x))


def resize(net, x):
    size = int(torch.randint(7, 10, ()))
    smaller = F.interpolate(x, size=(size, size), mode="bilinear")
    return net(F.interpolate(smaller, size=(8, 8), mode="bilinear"))


def batch_statistics(net, x):
    for module in net:
        is_norm = isinstance(module, nn.BatchNorm2d)
        x = F.batch_norm(x, None, None, module.weight, module.bias, training=True) if is_norm else module(x)
    return x


def detect(net, x):
    """Give NaN for images that are not on the grid of sixteenths."""
    odd = ((16 * x - (16 * x).round()).abs().flatten(1).amax(1) > 1e-3)[:, None]
    return net(x).masked_fill(odd, float("nan"))


def ignore_part(net, x):
    """Look at the first 300 images only and give the others the first one's logits."""
    logits = net(x[:300])
    return torch.cat([logits, logits[:1].expand(max(0, len(x) - 300), 10)])


def depend_on_size(net, x):
    return net(x) + 0.01 * (len(x) % 7) * torch.linspace(0, 1, 10)


def tiny_logits(net, x):
    return 1e-38 * net(x)


def saturate_easy(net, x):
    """Scale the logits of easy images until cross-entropy is flat: what reweighting does to GAIRAT, to the extreme."""
    logits = net(x)
    top = logits.detach().topk(2, dim=1).values
    return logits * torch.where(top[:, :1] - top[:, 1:] > 0.5, 1e3, 1.0)


@pytest.mark.parametrize(
    ("trick", "flag"),
    [
        (quantise, "zero-gradients"),
        (softmax, "probabilities"),
        (add_noise, "random-forwards"),
        (resize, "random-forwards"),
        (detect, "non-finite-gradients"),
        (ignore_part, "batch-dependence"),
        (depend_on_size, "batch-dependence"),
    ],
)
def test_trick_raises_its_flag(trick, flag, trained, examine, raised):
    torch.manual_seed(1)
    evaluation = examine(Defense(trained("standard"), trick))
    assert flag in raised(evaluation)
    assert evaluation.accuracy("clean") > 0.8, "the trick must work for its users"


def test_batch_norm_in_train_mode(with_norms, examine, raised):
    assert "batch-dependence" in raised(examine(Defense(with_norms, batch_statistics)))


def test_memory_of_test_images(trained, examine, raised, digits):
    def remember(_net, x):
        nearest = torch.cdist((8 * x).round().flatten(1), (8 * digits.x).round().flatten(1)).argmin(1)
        return 20.0 * F.one_hot(digits.y[nearest], 10)

    evaluation = examine(Defense(trained("standard"), remember))
    assert evaluation.accuracy("cw") == 1
    assert {"zero-gradients", "large-eps-survivors"} <= raised(evaluation)


def test_gradient_killer(trained, examine, raised):
    evaluation = examine(Defense(trained("standard"), kill_gradient), autoattack=True)
    assert evaluation.accuracy("pgd100") > 0.9
    found = raised(evaluation)
    assert {"zero-gradients", "square-gain", "large-eps-survivors", "noise-beats-pgd"} <= found
    assert "autoattack-far-below-pgd" in found


@pytest.mark.parametrize("trick", [tiny_logits, saturate_easy])
def test_scaled_logits(trick, trained, examine, raised):
    plain = examine(trained("standard")).accuracy("pgd20")
    evaluation = examine(Defense(trained("standard"), trick), autoattack=True)
    assert evaluation.accuracy("pgd20") > plain + 0.1, "the trick must fool cross-entropy"
    assert "autoattack-far-below-pgd" in raised(evaluation)


def test_transfer_from_a_peer(trained, examine, raised):
    """A killed gradient is no defense against examples made on a copy, and the flag says so."""
    victim = Defense(trained("standard"), kill_gradient)
    evaluation = examine(victim, peers={"standard": trained("standard"), "pgd_at": trained("pgd_at")})
    assert "transfer-beats-white-box" in raised(evaluation)
    (flag,) = (flag for flag in evaluation.flags if flag.name == "transfer-beats-white-box")
    assert flag.evidence["peers"]["standard"] < flag.evidence["pgd20"]


def test_normalisation_outside_the_model(trained, examine, digits, protocol):
    """Images that were normalised before the network are refused, whatever the network."""
    from advbench.benchmark.evaluation.evaluator import evaluate_shard

    normalised = (digits.x - digits.x.mean()) / digits.x.std()
    with pytest.raises(EvaluationError, match="normalise inside"):
        evaluate_shard(trained("standard"), normalised, digits.y, first=0, family="pgd", protocol=protocol, seed=0)


def test_constant_predictor_has_collapsed_but_masks_nothing(trained, examine, raised):
    evaluation = examine(Defense(trained("standard"), lambda net, x: 0 * net(x) + torch.arange(10.0)))
    assert raised(evaluation) == set()
    assert "collapsed" in raised(evaluation, "validity")
