"""FAT against the paper's Algorithm 1, run image by image in float64."""

import pytest
import torch

from advbench.benchmark.method import Batch
from advbench.methods.fat import FAT


def algorithm_1(formulas, net, x, y, x_adv, *, tau):
    """Early-stopped PGD for one image: K = 10, eps 1/10, step 1/25; return x' and how many steps were taken."""
    taken = 0
    for _ in range(10):
        x_adv = x_adv.detach().requires_grad_()
        z = net(x_adv[None])
        wrong = z[0].tolist().index(max(z[0].tolist())) != y
        if wrong and tau == 0:
            break
        if wrong:
            tau -= 1
        (gradient,) = torch.autograd.grad(formulas.ce(z, y[None]).sum(), x_adv)
        x_adv = x_adv + gradient.sign() / 25
        x_adv = torch.minimum(torch.maximum(x_adv, x - 0.1), x + 0.1).clamp(0, 1)
        taken += 1
    return x_adv.detach(), taken


@pytest.fixture
def mixed(stage):
    """A stage whose first six images are right at the start; `tau` is what its progress should give."""

    def make(progress):
        s = stage(FAT(), steps=10, progress=progress)
        with torch.no_grad():
            right = s.twin.target.eval()(s.batch.x).argmax(dim=1)
        s.batch = Batch(s.batch.x, torch.cat([right[:6], (right[6:] + 1) % 5]), s.batch.index)
        return s

    return make


@pytest.mark.parametrize(
    ("progress", "tau"), [(0.0, 0), (49 / 120, 0), (50 / 120, 1), (89 / 120, 1), (90 / 120, 2), (119 / 120, 2)]
)
def test_images_are_frozen_tau_misclassified_steps_after_they_fell_and_are_trained_on(progress, tau, mixed, formulas):
    s = mixed(progress)
    loss = s.method.loss(s.nets, s.batch, s.step)
    loss.backward()
    net = s.twin.target.eval()
    noise = torch.rand(s.batch.x.shape, generator=s.generator, dtype=torch.float64)
    starts = torch.clamp(s.batch.x + (2 * noise - 1) / 10, 0, 1)
    images = [
        algorithm_1(formulas, net, x, y, start, tau=tau)
        for x, y, start in zip(s.batch.x, s.batch.y, starts, strict=True)
    ]
    x_adv = torch.stack([image for image, _ in images])
    assert len({taken for _, taken in images}) >= 3, "images fall at different steps"
    torch.testing.assert_close(s.forwards[0][1], x_adv, rtol=0, atol=1e-12)
    net.train()
    reference = formulas.ce(net(x_adv), s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss.detach(), reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_the_objective_is_cross_entropy_from_a_uniform_start(stage, formulas):
    s = stage(FAT())
    _, seen = s.loss()
    probe = (s.batch.x + 0.03).requires_grad_()
    value = formulas.ce(s.twin.target.eval()(probe), s.batch.y).sum()
    torch.testing.assert_close(seen.value, value.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(seen.gradient, torch.autograd.grad(value, probe)[0], rtol=1e-8, atol=1e-12)
    assert seen.start == "uniform"


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_stopped_images_ride_along(progress, stage):
    s = stage(FAT(), steps=10, progress=progress)
    assert s.update() == 23
    assert s.order() == ["target(x_adv)"]


@pytest.mark.parametrize("values", [{"first": -0.1}, {"second": 1.1}, {"first": 0.8}, {"second": float("nan")}])
def test_impossible_values_are_refused_in_one_line(values):
    with pytest.raises(ValueError, match=r"^0 <= first <= second <= 1 must hold$"):
        FAT(**values)
