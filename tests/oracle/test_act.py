"""ACT against its formulas in float64: mixed reductions of the attack, both directions, two optimisers in one."""

import pytest
import torch

from advbench.methods.act import ACT


def own_loss(formulas, z, other, y, settings=(0.9, 4.0)):
    """(1 - a) CE(z, y) + a T² KL(other || z), other detached: the loss of either network."""
    a, t = settings
    divergence = formulas.kl(other.detach(), z, t).sum() / len(y)
    return (1 - a) * formulas.ce(z, y).mean() + a * t * t * divergence


@pytest.mark.parametrize("settings", [(0.9, 0.9, 4.0), (0.3, 0.7, 2.0)])
def test_each_network_gets_the_gradient_of_its_own_loss_alone(settings, stage, formulas):
    alpha_target, alpha_guide, t = settings
    s = stage(ACT(alpha_target=alpha_target, alpha_guide=alpha_guide, temperature=t))
    loss, seen = s.loss()
    z_g, z_adv = s.twin.guide(s.batch.x), s.twin.target(seen.x_adv)
    robust = own_loss(formulas, z_adv, z_g, s.batch.y, (alpha_target, t))
    natural = own_loss(formulas, z_g, z_adv, s.batch.y, (alpha_guide, t))
    torch.testing.assert_close(loss, (robust + natural).detach(), rtol=1e-9, atol=0)
    for net, own in ((s.twin.target, robust), (s.twin.guide, natural)):
        parameters = list(net.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(own, parameters), strict=True):
            parameter.grad = gradient
    s.assert_same()


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_attack_mixes_a_mean_of_cross_entropy_with_a_sum_of_kl_unless_told_otherwise(per_sample, stage, formulas):
    s = stage(ACT(attack_ce_per_sample=per_sample))
    _, seen = s.loss()
    z_g = s.twin.guide(s.batch.x).detach()  # in train mode, as the loss uses it
    assert not torch.allclose(s.twin.guide.eval()(s.batch.x), z_g)
    net, images = s.twin.target.eval(), len(s.batch.y)

    def objective(x):
        cross_entropy = formulas.ce(net(x), s.batch.y).sum() / (1 if per_sample else images)
        return 0.1 * cross_entropy + 0.9 * formulas.kl(z_g, net(x)).sum()

    s.assert_attack(seen, objective, "gaussian")


def test_ten_steps_with_one_optimiser_are_ten_steps_with_two(stage, formulas):
    """As released: both losses from the same forwards, then the guide's optimiser, then the target's."""
    s = stage(ACT(), lr=0.05)
    target, guide = s.twin.target, s.twin.guide
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    optimisers = [torch.optim.SGD(net.parameters(), **settings) for net in (guide, target)]
    for seed in range(10):
        s.batch = s.task.batch(seed=seed)
        s.update()
        y, z_g = s.batch.y, guide(s.batch.x)
        reference = z_g.detach()

        def objective(x, reference=reference, y=y):
            return 0.1 * formulas.ce(target(x), y).mean() + 0.9 * formulas.kl(reference, target(x)).sum()

        target.eval()
        x_adv = s.ascend(objective, "gaussian")
        target.train()
        z_adv = target(x_adv)
        losses = own_loss(formulas, z_g, z_adv, y), own_loss(formulas, z_adv, z_g, y)
        for optimiser, loss in zip(optimisers, losses, strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    s.twin.zero_grad(set_to_none=True)
    s.assert_same(rtol=1e-7, atol=1e-9)


def test_a_step_costs_26_forwards_and_neither_network_sees_the_images_of_the_other(stage):
    s = stage(ACT(), steps=10)
    assert s.update() == 26
    assert s.order() == ["guide(x)", "target(x_adv)"]
    assert s.method.deployed(s.nets) is s.nets.target


def test_the_networks_start_differently(tiny_task):
    nets = ACT().build(tiny_task())
    assert not torch.equal(nets.target[0].weight, nets.guide[0].weight)


@pytest.mark.parametrize(
    "options",
    [{"alpha_target": 1.1}, {"alpha_guide": -0.1}, {"alpha_attack": float("nan")}, {"temperature": 0.0}],
)
def test_impossible_values_are_refused(options):
    with pytest.raises(ValueError, match="must be in"):
        ACT(**options)
