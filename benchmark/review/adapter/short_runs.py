"""A method on a few batches of real digits: same seed same weights, resuming to the bit, one batch learnt by heart."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from advbench.benchmark.data import registry
from advbench.benchmark.files import file_sha256
from advbench.benchmark.losses import ce_mean
from advbench.benchmark.method import Batch, Method
from advbench.benchmark.models import architectures
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.models.torch_state import isolated_rng
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Epoch, TrainingRecord
from advbench.benchmark.review.adapter.workload import small_protocol
from advbench.benchmark.review.finding import CheckError
from advbench.benchmark.runs.environment import describe
from advbench.benchmark.training.step import TrainingStep
from advbench.benchmark.training.task import TrainingTask
from advbench.benchmark.training.trainer import train

CPU = torch.device("cpu")
TIMELESS = {"seconds", "images_per_second", "peak_memory_bytes"}
"""What of a learning curve may differ between two runs that are the same to the bit."""
_OVERFIT_STEPS, _LEARNT = 50, 0.75


class Killed(Exception):  # noqa: N818 (an event, not an error)
    """Stands for a killed process."""


@cache
def digits() -> registry.Dataset:
    """Return the few digits of `small_protocol`."""
    return registry.load(small_protocol().data)


def random_teachers(method: Method[Any]) -> dict[str, nn.Module]:
    """Return freshly initialised teachers for every role of a method."""
    teachers = {}
    for number, role in enumerate(sorted(method.requires)):
        with isolated_rng():
            torch.manual_seed(100 + number)
            teachers[role] = architectures.build("smallcnn", num_classes=10, channels=1)
    return teachers


def run(
    method: Method[Any], folder: Path, *, seed: int = 0, until: int | None = None, protocol: Protocol | None = None
) -> TrainingRecord | None:
    """Train for a moment; `until` kills the run after that many epochs, and None is returned."""
    folder.mkdir(parents=True, exist_ok=True)

    def kill(row: Epoch) -> None:
        if until is not None and row.epoch + 1 == until:
            raise Killed

    try:
        return train(
            method,
            protocol or small_protocol(),
            digits(),
            seed=seed,
            folder=folder,
            device=CPU,
            environment=describe(CPU),
            teachers=random_teachers(method),
            on_epoch=kill,
        )
    except Killed:
        return None


def resumes_to_the_bit(method: Method[Any], folder: Path) -> None:
    """Killed after one and after three of four epochs, a run ends with the weights of the run that was not.

    Raises:
        CheckError: if it does not, or if it diverges.
    """
    whole = run(method, folder / "whole")
    if whole is None or whole.diverged is not None:
        raise CheckError("training a few digits diverges", "look at the scale of the loss")
    for until in (1, 3):
        place = folder / f"killed{until}"
        run(method, place, until=until)
        resumed = run(method, place)
        for file in ("best.safetensors", "last.safetensors"):
            if file_sha256(place / file) != file_sha256(folder / "whole" / file):
                message = f"killed after {until} of 4 epochs it ends with other {file}"
                raise CheckError(message, "keep all state in nets (register_buffer), draw nothing that no seed governs")
        if resumed is None or _curve(resumed) != _curve(whole):
            message = f"killed after {until} of 4 epochs it has another learning curve"
            raise CheckError(message, "keep all state in nets")


def _curve(record: TrainingRecord) -> list[dict[str, Any]]:
    return [row.model_dump(exclude=TIMELESS) for row in record.curve]


def seeds_differ(method: Method[Any], folder: Path) -> None:
    """Another seed gives other weights in every convolution.

    Raises:
        CheckError: if one is the same.
    """
    places = folder / "whole", folder / "other seed"  # the first is there already where a run was resumed
    for seed, place in enumerate(places):
        run(method, place, seed=seed)
    one, other = (load_file(place / "last.safetensors") for place in places)
    same = [key for key in one if one[key].dim() == 4 and torch.equal(one[key], other[key])]
    if same:
        raise CheckError(f"{same[0]} is the same with two seeds", "make networks with task.network() in build")


def overfits_one_batch(method: Method[Any]) -> None:
    """One batch of 32 digits, seen again and again, is learnt by heart.

    Raises:
        CheckError: if fewer than three quarters of it are (chance is a tenth).
    """
    batch = Batch(*next(iter(digits().train.batches(32))))
    with isolated_rng():
        torch.manual_seed(0)
        teachers = {role: _taught(net, batch) for role, net in random_teachers(method).items()}
        accuracy = _accuracy(method, _overfitted(method, batch, teachers), batch)
    if accuracy < _LEARNT:
        message = f"after {_OVERFIT_STEPS} steps on one batch {accuracy:.0%} of it are right"
        raise CheckError(message, "check signs, reductions (mean over images) and what is detached")


def _taught(net: nn.Module, batch: Batch) -> nn.Module:
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(_OVERFIT_STEPS):
        optimiser.zero_grad()
        ce_mean(net(batch.x), batch.y).backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
    return net.eval()


def _overfitted(method: Method[Any], batch: Batch, teachers: Mapping[str, nn.Module]) -> nn.Module:
    protocol, ledger = small_protocol(), Ledger()
    nets: nn.Module = method.build(TrainingTask(protocol, digits(), CPU, ledger, teachers))
    step = TrainingStep(
        nets,
        torch.optim.SGD([p for p in nets.parameters() if p.requires_grad], lr=0.1, momentum=0.9),
        threat=protocol.threat,
        inner=protocol.training.inner,
        generator=torch.Generator().manual_seed(0),
        ledger=ledger,
        refresh=lambda net: net.train()(batch.x),
        card=method.card,
    )
    nets.train()
    for _ in range(_OVERFIT_STEPS):
        with step.batch(len(batch.x)):
            method.update(nets, batch, step)
        with torch.no_grad():
            method.after_step(nets, step)
    with torch.no_grad():
        method.after_epoch(nets, step)
    return nets


@torch.no_grad()
def _accuracy(method: Method[Any], nets: nn.Module, batch: Batch) -> float:
    """Return the best accuracy of a trained network, with the batch's own statistics: averages lag behind."""
    accuracies, deployed = [], method.deployed(nets).state_dict().keys()
    for net in nets.children():
        if net.state_dict().keys() == deployed and any(value.requires_grad for value in net.parameters()):
            right = copy.deepcopy(net).train()(batch.x).argmax(1) == batch.y
            accuracies.append(float(right.float().mean()))
    return max(accuracies, default=0.0)
