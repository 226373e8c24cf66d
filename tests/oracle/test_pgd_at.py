"""PGD-AT against its formula in float64, and the clean forward that its release makes beside it."""

import pytest
import torch

from advbench.methods.pgd_at import PGDAT


@pytest.mark.parametrize("release_bn", [False, True])
def test_loss_attack_gradients_and_statistics_are_the_formula_s(release_bn, stage, formulas):
    s = stage(PGDAT(release_bn=release_bn))
    loss, seen = s.loss()
    net = s.twin.target
    reference = formulas.ce(net(seen.x_adv), s.batch.y).mean()
    reference.backward()
    if release_bn:
        with torch.no_grad():
            net(s.batch.x)
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()
    twin = stage(PGDAT())
    _, seen = twin.loss()
    evaluated = twin.twin.target.eval()
    twin.assert_attack(seen, lambda x: formulas.ce(evaluated(x), twin.batch.y).sum(), "uniform")


@pytest.mark.parametrize(("release_bn", "cost"), [(False, 23), (True, 24)])
def test_a_step_s_passes_and_order(release_bn, cost, stage):
    s = stage(PGDAT(release_bn=release_bn), steps=10)
    assert s.update() == cost
    assert s.order() == ["target(x_adv)", "target(x)"][: 1 + release_bn]
