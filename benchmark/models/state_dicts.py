"""State dicts of public code, read without running code in them and brought under the names of an architecture of ours.

Training scripts save weights bare, below "state_dict" or "model", and with the prefixes of what was around the network:
DataParallel ("module."), torch.compile ("_orig_mod."), Lightning ("model."), the robustness library ("module.model."
beside a copy below "module.attacker.model."). The prefix is found from the architecture's own names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

_NESTED = ("state_dict", "model_state_dict", "model", "net", "network")
_UNUSED = ("sub_block1.",)
"""Layers that public code saves and never runs: the WideResNet of TRADES has them."""
_COUNTER = "num_batches_tracked"
"""Counted by batch norm since torch 0.4.1 and not used in eval mode: older files lack it."""


class StateDictError(ValueError):
    """A file that holds no usable state dict; the message is one line with the fix."""


def first_words(error: BaseException) -> str:
    """Return the beginning of an error's text on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def read(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file of safetensors or of torch's, whichever the file is, whatever it is called.

    Raises:
        StateDictError: if there is none, or the file holds more than weights.
    """
    found: Any
    if _is_safetensors(path):
        try:
            found = load_file(path)
        except Exception as error:  # noqa: BLE001 (a damaged file may break the parser in any way)
            raise StateDictError(f"{path}: not a readable safetensors file ({first_words(error)})") from None
    else:
        found = unpickled(path)
    while isinstance(found, Mapping):
        nested = next((key for key in _NESTED if isinstance(found.get(key), Mapping)), None)
        if nested is None:
            break
        found = found[nested]
    if not isinstance(found, Mapping) or not found:
        raise StateDictError(f"{path}: no state dict; save net.state_dict()")
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()):
        raise StateDictError(f"{path}: no state dict; save net.state_dict()")
    return dict(found)


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a header of JSON, as safetensors do."""
    with path.open("rb") as handle:
        head = handle.read(9)
    plausible = len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    return plausible or (path.suffix == ".safetensors" and not head.startswith(b"PK"))


def unpickled(path: Path) -> Any:  # noqa: ANN401 (what a stranger's file holds)
    """Return what a file of torch's holds; only tensors and plain containers are read.

    Raises:
        StateDictError: if there is more in it, or it is none.
    """
    try:
        with path.open("rb") as handle:  # by its name torch would take it for what its suffix says
            return torch.load(handle, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (a damaged file may break the parser in any way)
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise StateDictError(
                f"{path}: holds more than weights, and code in it is not run; save net.state_dict() alone"
            ) from None
        raise StateDictError(f"{path}: not a readable file of weights ({first_words(error)})") from None


def fitted(state: dict[str, Tensor], own: Mapping[str, Tensor], *, path: Path, architecture: str) -> dict[str, Tensor]:
    """Return the weights of an architecture out of a state dict: names without prefix, a value for every name.

    Args:
        state: as it was read.
        own: the architecture's own state dict: names, shapes, and the values of counters that the file may lack.
        path: of the file, for messages.
        architecture: its name, for messages.

    Raises:
        StateDictError: if names or shapes do not fit, a value is not finite, or something stands beside the network
            that would change what it computes.
    """
    needed = [key for key in own if not key.endswith(_COUNTER)]
    prefix, others = _prefixes(state, needed)
    found = {key: state[prefix + key] for key in own if prefix + key in state}
    wrong = [key for key, value in found.items() if value.shape != own[key].shape]
    if wrong:
        key = wrong[-1]
        there, here = tuple(found[key].shape), tuple(own[key].shape)
        raise StateDictError(
            f"{path}: weights of another architecture, or of other classes: {key} is {there}, {architecture} has {here}"
        )
    missing = [key for key in needed if key not in found]
    left = [key for key in state if not (key.startswith(prefix) and key[len(prefix) :] in own)]
    unknown = [key for key in left if not _is_harmless(key, state, prefix, others)]
    inside = [key for key in unknown if key.startswith(prefix)]
    if missing or inside:
        named = f"it lacks {missing[0]}" if missing else f"it has {inside[0]}"
        raise StateDictError(
            f"{path}: weights of another architecture than {architecture}: {named} "
            f"({len(missing)} of {len(own)} missing, {len(inside)} unknown)"
        )
    if unknown:
        raise StateDictError(
            f"{path}: {architecture} stands below {prefix!r} in a wrapper, beside {unknown[0]}, which may change what "
            "the network computes: save the inner network's state_dict(), or open the whole with FILE.py:function"
        )
    odd = [key for key, value in found.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if odd:
        raise StateDictError(f"{path}: weights that are not finite, in {odd[0]}")
    return {**own, **found}


def _prefixes(state: Mapping[str, Tensor], needed: list[str]) -> tuple[str, list[str]]:
    """Return the prefix below which most of the names are needed, the shortest of equals, and the other candidates."""
    candidates = {key.removesuffix(needed[0]) for key in state if key.endswith(needed[0])}
    candidates |= {key.removesuffix(needed[-1]) for key in state if key.endswith(needed[-1])} | {""}
    ranked = sorted(candidates, key=lambda prefix: (-sum(prefix + key in state for key in needed), len(prefix)))
    return ranked[0], ranked[1:]


def _is_harmless(key: str, state: Mapping[str, Tensor], prefix: str, others: list[str]) -> bool:
    """Whether a left-over entry is a layer that is never run, or belongs to a copy of the same weights."""
    if key.removeprefix(prefix).startswith(_UNUSED):
        return True
    copies = (prefix + key.removeprefix(other) for other in others if other and key.startswith(other))
    return any(copy in state and torch.equal(state[copy], state[key]) for copy in copies)
