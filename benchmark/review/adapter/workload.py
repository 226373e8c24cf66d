"""Tiny workloads on which methods are checked: float64 images of 4×4, and a few batches of real digits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.ball import Norm
from advbench.benchmark.method import Batch, Card
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import InnerBudget, Protocol, Threat, published
from advbench.benchmark.training.step import TrainingStep
from advbench.benchmark.training.task import Frozen


class _TinyNetwork(nn.Sequential):
    """Layers in turn; as in every network of a protocol the last one, from features to logits, is `head`."""

    @property
    def head(self) -> nn.Module:
        return self[-1]


def tiny_network(num_classes: int, dtype: torch.dtype) -> _TinyNetwork:
    """Make a 2-layer convolutional network with batch norm for 4×4×1 images: fast enough for finite differences."""
    net = _TinyNetwork(
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
        """Labels (N,), class by class in turn."""
        return torch.arange(self.images) % self.num_classes

    def network(self) -> nn.Module:
        """Make a fresh network."""
        net = tiny_network(self.num_classes, self.dtype)
        return self.ledger.watch(net, net.head)

    guide = network

    def teacher(self, role: str) -> nn.Module:
        """Return a frozen teacher, freshly initialised unless one was given."""
        if role in self.teachers:
            return Frozen(self.teachers[role])
        return Frozen(self.network())

    def batch(self, size: int = 8, seed: int = 0) -> Batch:
        """Draw uniform images with labels and indices that fit."""
        generator = torch.Generator().manual_seed(seed)
        index = torch.randperm(self.images, generator=generator)[:size]
        x = torch.rand(size, 1, 4, 4, generator=generator, dtype=self.dtype)
        return Batch(x, self.labels[index], index)


def make_step(
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
    card: Card | None = None,
    norm: Norm = "linf",
) -> TrainingStep:
    """Make a real training step on `nets`, in train mode, at the given progress."""
    trained = [parameter for parameter in nets.parameters() if parameter.requires_grad]
    step = TrainingStep(
        nets,
        torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay),
        threat=Threat(norm, Fraction(eps)),
        inner=InnerBudget(steps, Fraction(size)),
        generator=torch.Generator().manual_seed(seed),
        ledger=task.ledger,
        refresh=lambda _net: None,  # there is no epoch to pass over
        card=card,
    )
    step.start_epoch(progress)
    nets.train()
    return step


def small_protocol(**training: Any) -> Protocol:  # noqa: ANN401 (keys of the training section)
    """Return digits-linf/1 cut down: 96 training images, batch 32, four epochs, two inner steps."""
    plain = published()["digits-linf/1"].canonical()
    plain["name"] = "contract"
    plain["data"] = {**plain["data"], "train_limit": 96, "validation": 40, "test": 30}
    inner = {"steps": 2, "step": "3/80"}
    plain["training"] = {**plain["training"], "batch": 32, "epochs": 4, "inner": inner, **training}
    plain["selection"] = inner
    return Protocol.from_plain(plain)
