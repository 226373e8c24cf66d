"""Every method takes real training steps on real CIFAR-10, CIFAR-100 and Tiny ImageNet with PreActResNet-18.

Twenty steps on one fixed batch of four images, one inner step each so that a CPU can do it: the loss stays finite and
falls; four more steps late in training, when every switch of every method is on, stay finite. Long: `make soak`.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advbench.benchmark import discovery
from advbench.benchmark.data import registry
from advbench.benchmark.method import Batch
from advbench.benchmark.models import architectures
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import Data, InnerBudget, published
from advbench.benchmark.training.step import TrainingStep
from advbench.benchmark.training.task import TrainingTask

pytestmark = pytest.mark.soak
SETS = {"cifar10": "cifar10-linf/1", "cifar100": "cifar100-linf/1", "tinyimagenet": "tinyimagenet-linf/1"}


@pytest.fixture(scope="module")
def loaded():
    cache = {}

    def load(name: str) -> registry.Dataset:
        if name not in cache:
            root = os.environ.get("ADVBENCH_DATA")
            if root is None:
                pytest.skip("set ADVBENCH_DATA to a folder that holds the data sets")
            spec = replace(published()[SETS[name]].data, train_limit=400, validation=200, test_limit=200)
            assert isinstance(spec, Data)
            cache[name] = registry.load(spec, root=Path(root), download=False)
        return cache[name]

    return load


@pytest.mark.parametrize("name", discovery.names())
@pytest.mark.parametrize("dataset", SETS)
def test_twenty_real_steps(dataset, name, loaded):
    images = loaded(dataset)
    protocol = published()[SETS[dataset]]
    torch.manual_seed(0)
    method = discovery.make(name)
    ledger = Ledger()
    teachers = {
        role: architectures.build("preactresnet18", num_classes=images.num_classes, channels=3)
        for role in method.requires
    }
    nets = method.build(TrainingTask(protocol, images, torch.device("cpu"), ledger, teachers))
    step = TrainingStep(
        nets,
        torch.optim.SGD([p for p in nets.parameters() if p.requires_grad], lr=0.02, momentum=0.9, weight_decay=5e-4),
        threat=protocol.threat,
        inner=InnerBudget(1, protocol.training.inner.step),
        generator=torch.Generator().manual_seed(0),
        ledger=ledger,
        refresh=lambda net: None,
        card=method.card,
    )
    batch = Batch(*next(iter(images.train.epoch(4, torch.Generator().manual_seed(0)))))
    assert batch.x.shape[1:] == images.shape
    losses = []
    nets.train()
    for number in range(24):
        step.start_epoch(0.0 if number < 20 else 0.95)
        with step.batch(len(batch.x)):
            method.update(nets, batch, step)
        with torch.no_grad():
            method.after_step(nets, step)
        assert step.first_bad_batch() is None
        losses.append(step.means()["loss"])
    assert sum(losses[15:20]) < sum(losses[:5]), losses
