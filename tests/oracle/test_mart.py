"""MART against its formula written out in float64: boosted cross-entropy and the weighted divergence."""

import copy

import pytest
import torch

from advbench.methods.mart import MART


def reference_loss(formulas, z, z_adv, y):
    """With beta = 3; the released constants inside."""
    p, q = formulas.softmax(z), formulas.softmax(z_adv)
    total = 0.0
    for i, label in enumerate(y.tolist()):
        rival = max(q[i, k] for k in range(q.shape[1]) if k != label)
        boosted = -q[i, label].log() - (1.0001 - rival + 1e-12).log()
        kl = (p[i] * (p[i].log() - (q[i] + 1e-12).log())).sum()
        total = total + boosted + 3.0 * kl * (1.0000001 - p[i, label])
    return total / len(y)


def test_loss_gradients_and_order_of_forwards_are_the_formula_s(stage, formulas):
    s = stage(MART(beta=3.0), eps="1/100", size="1/100")
    right = copy.deepcopy(s.twin.target)(s.batch.x).argmax(dim=1)
    s.batch = s.batch._replace(y=torch.where(torch.arange(len(right)) < 4, right, (right + 1) % 5))
    loss, seen = s.loss()
    z, z_adv = s.twin.target(s.batch.x), s.twin.target(seen.x_adv)
    still_right = z_adv.argmax(dim=1) == s.batch.y
    assert still_right.any(), "the strongest rival must be second somewhere"
    assert not still_right.all(), "and first elsewhere"
    reference = reference_loss(formulas, z, z_adv, s.batch.y)
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-9, atol=0)
    s.assert_same()


def test_the_weights_of_the_divergence_are_not_detached(stage, formulas):
    s = stage(MART())
    _, seen = s.loss()
    z, z_adv = s.twin.target(s.batch.x), s.twin.target(seen.x_adv)
    p, q = formulas.softmax(z), formulas.softmax(z_adv)
    own = torch.arange(5) == s.batch.y[:, None]
    rival = q.masked_fill(own, -1).amax(dim=1)
    boosted = formulas.ce(z_adv, s.batch.y) - (1.0001 - rival + 1e-12).log()
    (boosted + 5.0 * formulas.kl(z, z_adv) * (1.0000001 - p[own]).detach()).mean().backward()
    ours, detached = s.nets.target[0].weight.grad, s.twin.target[0].weight.grad
    assert (ours - detached).abs().max() > 1e-3 * ours.abs().max()


def test_the_attack_ascends_cross_entropy_with_the_ground_truth_from_a_gaussian_start(stage, formulas):
    s = stage(MART())
    _, seen = s.loss()
    s.twin.eval()
    s.assert_attack(seen, lambda x: formulas.ce(s.twin.target(x), s.batch.y).sum(), "gaussian")


def test_a_step_costs_26_forwards_and_batch_norm_sees_clean_then_adversarial(stage):
    s = stage(MART(), steps=10)
    assert s.update() == 26
    assert s.order() == ["target(x)", "target(x_adv)"]


def test_extreme_logits_stay_finite(tiny_task, make_step):
    task = tiny_task(dtype=torch.float32)
    method = MART()
    nets = method.build(task)
    nets.target[-1].weight.data.mul_(1e4)
    loss = method.loss(nets, task.batch(), make_step(nets, task))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in nets.parameters())


@pytest.mark.parametrize("beta", [-1.0, float("nan"), float("inf")])
def test_an_impossible_weight_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be 0 or more"):
        MART(beta=beta)
