"""The protocol's optimiser over all that a method trains, with a factor of the rate for some of it."""

from collections.abc import Mapping

import torch
from torch import nn

from advbench.benchmark.protocol import Training
from advbench.benchmark.training.task import TrainingError


def make(nets: nn.Module, factors: Mapping[str, float], training: Training, *, fused: bool) -> torch.optim.SGD:
    """Return SGD over the trained parameters of `nets`, one group for each factor.

    Args:
        nets: all networks and modules of a method.
        factors: child of `nets` → what multiplies its learning rate; 1 for the others.
        training: momentum, weight decay and peak rate.
        fused: whether one kernel updates all parameters.

    Raises:
        TrainingError: if a factor names no child of `nets`.
    """
    unknown = set(factors) - {name for name, _ in nets.named_children()}
    if unknown:
        raise TrainingError(f"rates() names {min(unknown)!r}, which is no module that build() puts into nets")
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in nets.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(factors.get(name.partition(".")[0], 1.0), []).append(parameter)
    return torch.optim.SGD(
        [{"params": parameters, "factor": factor} for factor, parameters in groups.items() if parameters],
        lr=training.schedule.peak,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        fused=fused,
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group to its factor of `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
