"""The workload as a method builds from it: networks of the protocol's architecture and frozen teachers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from advbench.benchmark.models import architectures
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import Protocol

if TYPE_CHECKING:
    from advbench.benchmark.data.registry import Dataset


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message is one line with the fix."""


class Frozen(nn.Module):
    """A teacher: parameters frozen, in eval mode whatever its surroundings are set to."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.requires_grad_(requires_grad=False)
        self.train(mode=False)

    def train(self, mode: bool = True) -> "Frozen":  # noqa: ARG002, FBT001, FBT002 (the signature is torch's)
        """Stay in eval mode."""
        return super().train(mode=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; the input is differentiable."""
        logits: Tensor = self.net(x)
        return logits


@dataclass
class TrainingTask:
    """Implements `method.Task`: networks of the protocol's architecture, counted by the ledger."""

    protocol: Protocol
    dataset: "Dataset"
    device: torch.device
    ledger: Ledger
    teachers: Mapping[str, nn.Module]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.dataset.num_classes

    @property
    def labels(self) -> Tensor:
        """Labels of the training split."""
        return self.dataset.train.labels

    def network(self) -> nn.Module:
        """Make a fresh network on the device."""
        return self._built(self.protocol.network)

    def guide(self) -> nn.Module:
        """Make a fresh network of the guide's architecture on the device."""
        return self._built(self.protocol.guide or self.protocol.network)

    def _built(self, architecture: str) -> nn.Module:
        net = architectures.build(architecture, num_classes=self.num_classes, channels=self.dataset.shape[0])
        head: nn.Module = net.head  # type: ignore[assignment]  # every network of a protocol has one
        return self.ledger.watch(self._placed(net), head)

    def teacher(self, role: str) -> nn.Module:
        """Return a frozen teacher."""
        if role not in self.teachers:
            raise TrainingError(f"the method asks for a teacher {role!r} that its `requires` does not declare")
        return Frozen(self.ledger.watch(self._placed(self.teachers[role])))

    def _placed(self, net: nn.Module) -> nn.Module:
        """Move a network to the device, convolutions in channels_last."""
        placed: nn.Module = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch
        return placed
