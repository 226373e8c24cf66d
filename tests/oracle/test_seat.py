"""SEAT: PGD-AT's loss, and the average over steps, across an epoch boundary and at its ceiling."""

import pytest
import torch

from advbench.methods.seat import SEAT


def test_loss_gradients_and_attack_are_those_of_pgd_at_on_the_target(stage, formulas):
    s = stage(SEAT())
    loss, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "uniform")
    s.twin.train()
    reference = formulas.ce(s.twin.target(seen.x_adv), s.batch.y).mean()
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_average_of_weights_and_statistics_follows_the_released_decay_step_by_step(stage):
    """d_t = min(decay, (t+1)/(t+10)): 0.1, 2/11, 0.25, then the ceiling, here 0.28; t goes on in the next epoch."""
    s = stage(SEAT(decay=0.28))
    average = {name: value.clone() for name, value in s.nets.average.state_dict().items()}
    for t, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 0.28, 0.28)):
        if t == 2:
            s.step.start_epoch(0.5)
        s.batch = s.task.batch(seed=t)
        s.update()
        with torch.no_grad():
            s.method.after_step(s.nets, s.step)
        for name, value in s.nets.target.state_dict().items():
            if value.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * value
            else:
                average[name] = value.clone()
        deployed = s.method.deployed(s.nets).state_dict()
        assert deployed.keys() == average.keys()
        for name, value in average.items():
            torch.testing.assert_close(deployed[name], value, rtol=1e-12, atol=1e-14)
    assert int(s.nets.count) == 5
    assert not torch.equal(average["0.weight"], s.nets.target[0].weight)


def test_the_released_ceiling_is_reached_after_8990_steps(stage):
    s = stage(SEAT())
    before = s.nets.average[0].weight.clone()
    with torch.no_grad():
        s.nets.target[0].weight.add_(1.0)
    for steps, gained in ((8989, 1 - 8990 / 8999), (8990, 0.001), (10**6, 0.001)):
        s.nets.average[0].weight.copy_(before)
        s.nets.count.fill_(steps)
        s.method.after_step(s.nets, s.step)
        torch.testing.assert_close(s.nets.average[0].weight, before + gained, rtol=0, atol=1e-12)


def test_the_average_is_deployed_is_not_trained_and_costs_no_pass(stage):
    s = stage(SEAT(), steps=10)
    assert s.method.deployed(s.nets) is s.nets.average
    assert not any(parameter.requires_grad for parameter in s.nets.average.parameters())
    assert s.update() == 23
    s.method.after_step(s.nets, s.step)
    assert s.order() == ["target(x_adv)"]
    assert s.task.ledger.passes.forwards == 23 * 8


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_an_impossible_decay_is_refused_in_one_line(decay):
    with pytest.raises(ValueError, match=r"^decay must lie between 0 and 1$"):
        SEAT(decay=decay)
