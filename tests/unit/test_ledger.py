"""The pass ledger agrees with the FLOPs that torch really computes."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import OneNetwork
from advbench.benchmark.models.pass_counter import Ledger


def deep_network() -> nn.Module:
    """Fourteen equal layers, so that leaving out the first layer's input gradient hardly shows."""
    layers = [nn.Conv2d(16 if number else 1, 16, 3, padding=1) for number in range(14)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


class Flops(TorchDispatchMode):
    """Adds up the FLOPs of every operation, backward ones too.

    torch's FlopCounterMode also follows modules, which fails under `autograd.grad` with a leaf input.
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        return out


def flops_of(action) -> int:
    with Flops() as counter:
        action()
    return counter.total


@pytest.fixture
def watched(tiny_task, make_step):
    task = tiny_task(dtype=torch.float32)
    nets = OneNetwork(task.ledger.watch(deep_network()))
    return task, nets, make_step(nets, task, steps=10), task.batch()


def test_crafting_computes_no_weight_gradients(watched):
    task, nets, step, batch = watched
    forward = flops_of(lambda: nets.target(batch.x))
    task.ledger.reset()
    spent = flops_of(lambda: step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y)))
    assert task.ledger.passes.model_dump() == {"forward": 80, "input_gradient": 80, "weight_gradient": 0}
    assert spent / forward == pytest.approx(20, rel=0.02)


def test_a_training_step_of_pgd_at_is_23_forwards(watched):
    task, nets, step, batch = watched
    forward = flops_of(lambda: nets.target(batch.x))
    task.ledger.reset()

    def update():
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        step.backward(ce_mean(nets.target(x_adv), batch.y))

    spent = flops_of(update)
    assert task.ledger.passes.forwards == 23 * len(batch.x)
    assert spent / forward == pytest.approx(23, rel=0.02)


def test_forwards_without_gradient_and_detached_outputs_count_no_backward(watched):
    task, nets, _, batch = watched
    task.ledger.reset()
    with torch.no_grad():
        nets.target(batch.x)
    detached = nets.target(batch.x).detach()
    ce_sum(nets.target(batch.x) + detached, batch.y).backward()
    assert task.ledger.reset().model_dump() == {"forward": 24, "input_gradient": 0, "weight_gradient": 8}
    assert task.ledger.passes.forwards == 0


def test_copies_are_counted_by_the_same_ledger():
    ledger = Ledger()
    net = ledger.watch(nn.Linear(3, 2))
    copy.deepcopy(net)(torch.ones(4, 3))
    assert ledger.passes.forward == 4
