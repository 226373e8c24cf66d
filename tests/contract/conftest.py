"""Real but small training runs: a few batches of digits through the one trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advbench.benchmark import discovery
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import TrainingRecord
from advbench.benchmark.review.adapter import short_runs
from advbench.benchmark.review.adapter.workload import small_protocol as small


@pytest.fixture(scope="session")
def small_protocol() -> Callable[..., Protocol]:
    return small


@pytest.fixture
def run() -> Callable[..., TrainingRecord]:
    """`run(method, folder, seed=0, until=None)`: train; `until` kills the run after that many epochs."""

    def go(method: Any, folder: Path, **options: Any) -> TrainingRecord | None:
        return short_runs.run(discovery.make(method) if isinstance(method, str) else method, folder, **options)

    return go
