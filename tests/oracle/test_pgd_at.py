"""PGD-AT against its formula in float64, and the clean forward that its release makes beside it."""

import pytest
import torch

from advbench.methods.pgd_at import PGDAT, PGDATEMA, PGDATSWA


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


def test_the_averaged_row_trains_as_pgd_at_and_deploys_the_average(stage, formulas):
    s = stage(PGDATEMA(decay=0.15))
    average = {name: value.clone() for name, value in s.nets.average.state_dict().items()}
    for t, decay in enumerate((0.1, 0.15, 0.15)):
        s.batch = s.task.batch(seed=t)
        s.update()
        s.method.after_step(s.nets, s.step)
        for name, value in s.nets.target.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
    assert s.method.deployed(s.nets) is s.nets.average
    for name, value in s.nets.average.state_dict().items():
        torch.testing.assert_close(value, average[name], rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="decay must lie between 0 and 1"):
        PGDATEMA(decay=1.0)


def test_the_row_with_swa_averages_epochs_after_the_first_drop(stage, monkeypatch):
    s = stage(PGDATSWA(swa_delay=0.25))
    refreshed = []
    monkeypatch.setattr(s.step, "refresh_bn", refreshed.append)
    visited = []
    for epoch in range(4):
        s.step.start_epoch(epoch / 4)
        s.update()
        s.method.after_epoch(s.nets, s.step)
        visited.append(s.nets.target[0].weight.detach().clone())
        assert (s.method.deployed(s.nets) is s.nets.average) == (epoch == 3), "first drop 1/2, delay 1/4"
    s.step.start_epoch(0.9)
    s.update()
    s.method.after_epoch(s.nets, s.step)
    expected = (visited[-1] + s.nets.target[0].weight.detach()) / 2
    torch.testing.assert_close(s.nets.average[0].weight, expected, rtol=1e-12, atol=1e-14)
    assert refreshed == [s.nets.average] * 2
    with pytest.raises(ValueError, match="swa_delay must lie in"):
        PGDATSWA(swa_delay=1.5)
