"""TRADES against a float64 NumPy reference of its loss and an independent autograd of its inner objective."""

import copy

import numpy as np
import torch
import torch.nn.functional as F

from advbench.methods.trades import TRADES


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_loss_is_clean_cross_entropy_plus_beta_kl_from_clean_to_adversarial(tiny_task, make_step, monkeypatch):
    task = tiny_task()
    method = TRADES(beta=4.0)
    nets = method.build(task)
    step = make_step(nets, task)
    batch = task.batch()
    x_adv = (batch.x + 0.05).clamp(0, 1)
    monkeypatch.setattr(step, "craft", lambda *args, **kwargs: x_adv)
    loss = method.loss(nets, batch, step)
    nets.train()
    with torch.no_grad():
        p, q = (softmax(nets.target(images).numpy()) for images in (batch.x, x_adv))
    cross_entropy = -np.log(p[np.arange(len(p)), batch.y.numpy()]).mean()
    kl = (p * (np.log(p) - np.log(q))).sum(axis=1).mean()
    np.testing.assert_allclose(loss.item(), cross_entropy + 4.0 * kl, rtol=1e-12)


def test_inner_objective_starts_gaussian_and_ascends_kl_of_eval_mode_outputs(tiny_task, make_step, monkeypatch):
    task = tiny_task()
    nets = TRADES().build(task)
    step = make_step(nets, task)
    batch = task.batch()
    # Move the batch-norm statistics away from the batch's own, so that train and eval mode differ.
    nets.target(torch.rand(64, 1, 4, 4, dtype=torch.float64) * 3)
    before = copy.deepcopy(nets).eval()
    seen = {}

    def craft(x, objective, start="uniform", **kwargs):
        nets.eval()
        x_adv = (x + 0.03).requires_grad_()
        value = objective(x_adv)
        seen.update(start=start, value=value.item(), gradient=torch.autograd.grad(value, x_adv)[0])
        nets.train()
        return x

    monkeypatch.setattr(step, "craft", craft)
    TRADES().loss(nets, batch, step)
    assert seen["start"] == "gaussian"
    x_adv = (batch.x + 0.03).requires_grad_()
    p = F.softmax(before.target(batch.x), dim=1).detach()
    q = F.softmax(before.target(x_adv), dim=1)
    reference = (p * (p.log() - q.log())).sum()
    np.testing.assert_allclose(seen["value"], reference.item(), rtol=1e-10)
    torch.testing.assert_close(seen["gradient"], torch.autograd.grad(reference, x_adv)[0], rtol=1e-8, atol=1e-12)


def test_both_forwards_give_gradient_and_the_order_is_adversarial_then_clean(tiny_task, make_step):
    task = tiny_task()
    method = TRADES()
    nets = method.build(task)
    step = make_step(nets, task, steps=10)
    shown = []
    nets.target.register_forward_pre_hook(lambda module, inputs: shown.append((module.training, inputs[0].detach())))
    batch = task.batch()
    task.ledger.reset()
    step.backward(method.loss(nets, batch, step))
    train_mode = [x for training, x in shown if training]
    assert len(train_mode) == 2
    assert not torch.equal(train_mode[0], batch.x)
    assert torch.equal(train_mode[1], batch.x)
    assert task.ledger.passes.forwards == 27 * len(batch.x)
