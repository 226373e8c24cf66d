"""Weights and resume files, written atomically and read without running code in them."""

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from advbench.benchmark.files import file_sha256
from advbench.benchmark.models import architectures
from advbench.benchmark.models.torch_state import isolated_rng

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message is one line."""


class ChangedWeightsError(CheckpointError):
    """A weights file with another checksum than it should have."""


def _atomically(write: Callable[[Path], None], path: Path) -> None:
    """Write beside the goal, flush to disk, then rename: a reader sees the old file or the new one, never half."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        with beside.open("rb+") as handle:
            os.fsync(handle.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def save_weights(net: nn.Module, path: Path) -> None:
    """Save the state dict of `net` as safetensors."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    _atomically(lambda beside: save_file(weights, beside), path)


def load_weights(net: nn.Module, path: Path) -> nn.Module:
    """Load safetensors into `net` and return it.

    Raises:
        CheckpointError: if the file is missing, torn or of another architecture.
    """
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weights file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{path}: weights of another architecture ({first[:160]})") from None
    return net


def load(
    path: Path,
    architecture: str,
    *,
    num_classes: int,
    channels: int,
    sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Return a frozen network in eval mode with the weights of a safetensors file; random states stay as they are.

    Args:
        path: the file of weights.
        architecture: a name that `architectures.build` knows.
        num_classes: logits of the network.
        channels: channels of its images.
        sha256: the checksum that the file must have; None: any.
        device: where the network shall lie.

    Raises:
        CheckpointError: if the file is missing, torn or of another architecture.
        ChangedWeightsError: if its checksum is another.
    """
    if sha256 is not None and path.is_file():
        found = file_sha256(path)
        if found != sha256:
            raise ChangedWeightsError(f"{path}: other weights than expected (sha256 {found[:12]}, not {sha256[:12]})")
    with isolated_rng():  # the initial weights are thrown away
        network = architectures.build(architecture, num_classes=num_classes, channels=channels)
    return load_weights(network, path).to(device).eval().requires_grad_(requires_grad=False)


def save_resume(plain: dict[str, Any], path: Path) -> None:
    """Save tensors and plain data for resuming."""
    _atomically(lambda beside: torch.save(plain, beside), path)


def load_resume(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read what `save_resume` wrote; a file that is missing or torn gives None and the run starts anew."""
    if not path.exists():
        return None
    try:
        plain: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        log.warning("%s is torn (%s): training starts anew", path, type(error).__name__)
        return None
    return plain
