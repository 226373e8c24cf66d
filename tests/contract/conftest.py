"""Real but small training runs: a few batches of digits through the one trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from advbench.benchmark import data, discovery, networks
from advbench.benchmark.protocol import Protocol, published
from advbench.benchmark.records import Environment, Epoch, TrainingRecord
from advbench.benchmark.trainer import train


class Killed(Exception):  # noqa: N818 (an event, not an error)
    """Stands for a killed process."""


def small(**training: Any) -> Protocol:
    """digits-linf/1 cut down: 96 training images, batch 32, two inner steps."""
    plain = published()["digits-linf/1"].canonical()
    plain["name"] = "contract"
    plain["data"] = {**plain["data"], "train_limit": 96, "validation": 40, "test": 30}
    plain["training"] = {
        **plain["training"],
        "batch": 32,
        "epochs": 4,
        "inner": {"steps": 2, "step": "3/80"},
        **training,
    }
    plain["selection"] = {"steps": 2, "step": "3/80"}
    return Protocol.from_plain(plain)


@pytest.fixture(scope="session")
def environment() -> Environment:
    return Environment(advbench="test", python="3", libraries={}, device="cpu", cpu="any", threads=1, precision="fp32")


@pytest.fixture(scope="session")
def small_protocol() -> Callable[..., Protocol]:
    return small


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load(small().data)


@pytest.fixture
def run(environment, digits) -> Callable[..., TrainingRecord]:
    """`run(method, folder, seed=0, until=None)`: train; `until` kills the run after that many epochs."""

    def go(
        method: Any,
        folder: Path,
        *,
        seed: int = 0,
        until: int | None = None,
        protocol: Protocol | None = None,
    ) -> TrainingRecord:
        folder.mkdir(parents=True, exist_ok=True)
        method = discovery.make(method) if isinstance(method, str) else method

        def kill(row: Epoch) -> None:
            if until is not None and row.epoch + 1 == until:
                raise Killed

        teachers = {}
        for number, role in enumerate(sorted(method.requires)):
            torch.manual_seed(100 + number)
            teachers[role] = networks.build("smallcnn", num_classes=10, channels=1)
        try:
            return train(
                method,
                protocol or small(),
                digits,
                seed=seed,
                folder=folder,
                device=torch.device("cpu"),
                environment=environment,
                teachers=teachers,
                on_epoch=kill,
            )
        except Killed:
            return None  # type: ignore[return-value]

    return go
