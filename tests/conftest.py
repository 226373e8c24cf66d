"""Fixtures shared by the suite: tiny float64 workloads on which methods are held against references."""

from collections.abc import Callable

import pytest
import torch

from advbench.benchmark.review.adapter import workload
from advbench.benchmark.review.adapter.workload import TinyTask
from advbench.benchmark.training.step import TrainingStep

torch.set_num_threads(1)


@pytest.fixture
def tiny_task() -> Callable[..., TinyTask]:
    """Factory of tiny tasks: `tiny_task(num_classes=5, dtype=torch.float64)`."""
    torch.manual_seed(0)
    return TinyTask


@pytest.fixture
def make_step() -> Callable[..., TrainingStep]:
    """Factory of real training steps on `nets`: `make_step(nets, task, progress=0.0, lr=0.1, steps=3)`."""
    return workload.make_step
