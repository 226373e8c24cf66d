"""Fixtures shared by the suite: tiny float64 workloads on which methods are held against references."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from advbench.benchmark.ledger import Ledger
from advbench.benchmark.method import Batch
from advbench.benchmark.protocol import InnerBudget, Threat
from advbench.benchmark.step import TrainingStep
from advbench.benchmark.task import Frozen

torch.set_num_threads(1)


def tiny_network(num_classes: int, dtype: torch.dtype) -> nn.Module:
    """A 2-layer convolutional network with batch norm on 4×4×1 images: fast enough for finite differences."""
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, num_classes),
    )
    return net.to(dtype)


@dataclass
class TinyTask:
    """A `method.Task` on made-up data: 4×4×1 images, N training labels."""

    num_classes: int = 5
    images: int = 32
    dtype: torch.dtype = torch.float64
    ledger: Ledger = field(default_factory=Ledger)
    teachers: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def labels(self) -> Tensor:
        return torch.arange(self.images) % self.num_classes

    def network(self) -> nn.Module:
        return self.ledger.watch(tiny_network(self.num_classes, self.dtype))

    def teacher(self, role: str) -> nn.Module:
        if role in self.teachers:
            return Frozen(self.teachers[role])
        return Frozen(self.network())

    def batch(self, size: int = 8, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        index = torch.randperm(self.images, generator=generator)[:size]
        x = torch.rand(size, 1, 4, 4, generator=generator, dtype=self.dtype)
        return Batch(x, self.labels[index], index)


@pytest.fixture
def tiny_task() -> Callable[..., TinyTask]:
    """Factory of tiny tasks: `tiny_task(num_classes=5, dtype=torch.float64)`."""
    torch.manual_seed(0)
    return TinyTask


@pytest.fixture
def make_step() -> Callable[..., TrainingStep]:
    """Factory of real training steps on `nets`: `make_step(nets, task, progress=0.0, lr=0.1, steps=3)`."""

    def make(
        nets: nn.Module,
        task: TinyTask,
        *,
        progress: float = 0.0,
        lr: float = 0.1,
        steps: int = 3,
        eps: str = "1/10",
        size: str = "1/25",
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        seed: int = 0,
    ) -> TrainingStep:
        trained = [parameter for parameter in nets.parameters() if parameter.requires_grad]
        step = TrainingStep(
            nets,
            torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay),
            threat=Threat("linf", Fraction(eps)),
            inner=InnerBudget(steps, Fraction(size)),
            generator=torch.Generator().manual_seed(seed),
            ledger=task.ledger,
            refresh=lambda net: None,
        )
        step.start_epoch(progress)
        nets.train()
        return step

    return make
