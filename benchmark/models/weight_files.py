"""Weights and resume files, written atomically and read without running code in them."""

import contextlib
import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from advbench.benchmark.files import file_sha256, write_bytes
from advbench.benchmark.models import architectures
from advbench.benchmark.models.torch_state import isolated_rng

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message is one line."""


class ChangedWeightsError(CheckpointError):
    """A weights file with another checksum than it should have."""


def save_weights(net: nn.Module, path: Path) -> str:
    """Save the state dict of `net` as safetensors; return the sha256 of the file."""
    raw = serialised(net)
    write_bytes(path, raw)
    return hashlib.sha256(raw).hexdigest()


def serialised(net: nn.Module) -> bytes:
    """Return the state dict of `net` as the contents of a safetensors file."""
    return save({name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()})


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


def older(path: Path) -> Path:
    """Return where the resume state before the newest one lies."""
    return path.with_name(f"{path.stem}-older{path.suffix}")


def save_resume(plain: dict[str, Any], path: Path) -> None:
    """Save tensors and plain data for resuming, below a line with their sha256; keep the state before."""
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    raw = buffer.getvalue()
    with contextlib.suppress(FileNotFoundError):
        path.replace(older(path))
    write_bytes(path, hashlib.sha256(raw).hexdigest().encode() + b"\n" + raw)


def load_resume(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the newest state of `save_resume` that is whole; None if there is none and the run starts anew."""
    for file, rest in ((path, "going on from the state before, if there is one"), (older(path), "training anew")):
        try:
            digest, _, raw = file.read_bytes().partition(b"\n")
        except FileNotFoundError:
            continue
        if hashlib.sha256(raw).hexdigest().encode() == digest:
            plain: dict[str, Any] = torch.load(io.BytesIO(raw), map_location=device, weights_only=True)
            return plain
        log.warning("%s is torn: %s", file, rest)
    return None
