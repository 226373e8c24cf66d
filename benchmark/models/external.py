"""Networks from anywhere, made ready for attack: runs of ours, weights, RobustBench's zoo, programs, users' own code.

A reference says what it is by its form, never a file by what is in it. Files of weights are read without running code
in them (`weights_only`); `exported:FILE` and `scripted:FILE` are programs of torch's (`models/programs.py`);
`module:function` runs code of the user, and the origin of such a network says so.
Nothing that comes from here enters the main board: the board knows weights and an architecture of ours only.
"""

import difflib
import importlib
import pickle
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advbench.benchmark.files import file_sha256
from advbench.benchmark.models import architectures, programs, robustbench, state_dicts
from advbench.benchmark.models.architectures import NetworkError
from advbench.benchmark.models.external_network import ExternalNetwork
from advbench.benchmark.models.programs import ProgramError
from advbench.benchmark.models.state_dicts import StateDictError, first_words
from advbench.benchmark.models.torch_state import evaluating, isolated_rng

Kind = Literal["run", "weights", "zoo", "code", "exported", "scripted"]
ZOO = "zoo:"
"""Prefix of a reference to RobustBench's zoo."""
KINDS: Mapping[Kind, str] = {
    "run": "a run of this store",
    "weights": "weights of an architecture of ours",
    "zoo": "RobustBench's zoo code with a local checkpoint",
    "code": "the user's own code: it ran here, and nothing checks what it does",
    "exported": "a torch.export program",
    "scripted": "a TorchScript program",
}
_ZOO_DATA = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet": "imagenet"}
_ZOO_THREATS = {"linf": ("Linf", "L2", "corruptions"), "l2": ("L2", "Linf", "corruptions")}


class ExternalError(ValueError):
    """A network that cannot be opened or attacked; the message is one line with the fix."""


@dataclass(frozen=True)
class Origin:
    """Where a network came from, as it is printed and written down.

    Attributes:
        reference: as the user wrote it.
        architecture: the name of the architecture, where there is one.
        sha256: of the file of weights or program; None for code.
    """

    reference: str
    kind: Kind
    architecture: str | None = None
    sha256: str | None = None

    @property
    def text(self) -> str:
        """The kind in words."""
        return KINDS[self.kind]

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**asdict(self), "text": self.text}


@dataclass(frozen=True)
class OpenedNetwork:
    """A network in eval mode on its device, and where it came from."""

    network: nn.Module
    origin: Origin


@dataclass(frozen=True)
class Workload:
    """The data that a network must fit: name, number of classes, (C, H, W) of an image."""

    data: str
    num_classes: int
    shape: tuple[int, int, int]


def open_network(
    reference: str,
    workload: Workload,
    *,
    architecture: str | None = None,
    weights: Path | None = None,
    norm: str = "linf",
    device: torch.device | str = "cpu",
) -> OpenedNetwork:
    """Open `zoo:NAME`, `module:function`, `FILE.py:function`, `exported:FILE`, `scripted:FILE`, or a file of weights.

    Args:
        reference: what to open.
        workload: what it must fit.
        architecture: for a file of weights: a name that `networks.build` knows.
        weights: for the zoo: RobustBench's checkpoint, or a folder in RobustBench's layout; nothing is downloaded.
        norm: for the zoo, which has models of one name for several threats: "linf" or "l2" first.
        device: where the network shall lie.

    Raises:
        ExternalError: if there is no such thing, or it is not what the reference says; one line.
    """
    try:
        if reference.startswith(ZOO):
            network, origin = _zoo(reference, workload, weights, norm)
        elif reference.startswith("exported:"):
            network, origin = _program("exported", reference, torch.device(device))
        elif reference.startswith("scripted:"):
            network, origin = _program("scripted", reference, torch.device(device))
        elif Path(reference).is_file():
            network, origin = _weights(Path(reference), workload, architecture)
        elif ":" in reference:
            network, origin = _code(reference)
        else:
            raise ExternalError(
                f"{reference}: no such file; a network is a run, a file of weights, zoo:NAME, module:function, "
                "FILE.py:function, exported:FILE or scripted:FILE"
            )
    except (NetworkError, ProgramError, StateDictError) as error:
        raise ExternalError(str(error)) from None
    if origin.kind != "weights":
        network = ExternalNetwork(network)
    return OpenedNetwork(network.to(device).eval(), origin)


def _weights(path: Path, workload: Workload, architecture: str | None) -> tuple[nn.Module, Origin]:
    """Open a file of weights; whatever it holds, nothing in it is run."""
    program = programs.kind_of(path)
    if program is not None:
        raise ExternalError(f"{path}: looks like {KINDS[program]}, not weights; to run it, write {program}:{path}")
    if architecture is None:
        raise ExternalError(
            f"{path}: weights need the name of their architecture: --architecture {'|'.join(architectures.names())}"
        )
    digest = file_sha256(path)
    with isolated_rng():  # the initial weights are thrown away
        network = architectures.build(architecture, num_classes=workload.num_classes, channels=workload.shape[0])
    state = state_dicts.fitted(state_dicts.read(path), network.state_dict(), path=path, architecture=architecture)
    network.load_state_dict(state)
    return network, Origin(str(path), "weights", architecture, digest)


def _program(kind: programs.Kind, reference: str, device: torch.device) -> tuple[nn.Module, Origin]:
    """Open the program that a reference asks for by name."""
    path = Path(reference.partition(":")[2])
    if not path.is_file():
        raise ExternalError(f"{path}: no such file")
    network = programs.OPENERS[kind](path, device)
    return network, Origin(reference, kind, None, file_sha256(path))


def _code(reference: str) -> tuple[nn.Module, Origin]:
    """Call the user's function without arguments; whatever it raises becomes one line."""
    place, _, name = reference.rpartition(":")
    try:
        function = getattr(_module(place), name)
    except AttributeError:
        raise ExternalError(f"{reference}: {place} has no function {name!r}") from None
    try:
        network = function()
    except Exception as error:
        raise ExternalError(f"{reference}: {name}() raised {type(error).__name__}: {first_words(error)}") from error
    if not isinstance(network, nn.Module):
        raise ExternalError(f"{reference}: {name}() returned {type(network).__name__}, not a torch.nn.Module")
    return network, Origin(reference, "code")


def _module(place: str) -> object:
    path = Path(place)
    try:
        if path.suffix != ".py":
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
            return importlib.import_module(place)
        if str(path.parent.resolve()) not in sys.path:
            sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE.py` has it: neighbours can be imported
        name = f"advbench_user_{path.stem}"
        loader = SourceFileLoader(name, str(path))
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module
        loader.exec_module(module)
    except Exception as error:
        raise ExternalError(f"{place}: importing it raised {type(error).__name__}: {first_words(error)}") from error
    return module


def _zoo(reference: str, workload: Workload, weights: Path | None, norm: str) -> tuple[nn.Module, Origin]:
    """Build a model with RobustBench's own loading code, from files that are here already."""
    name = reference.removeprefix(ZOO)
    if workload.data not in _ZOO_DATA:
        raise ExternalError(f"{reference}: RobustBench's zoo has models of {', '.join(_ZOO_DATA)}, not {workload.data}")
    loading = robustbench.robustbench("utils")
    table = {key.value: models for key, models in loading.all_models.items()}[_ZOO_DATA[workload.data]]
    models = {threat.value: found for threat, found in table.items()}
    threat = next((key for key in _ZOO_THREATS[norm] if name in models.get(key, {})), None)
    if threat is None:
        every = sorted({model for found in models.values() for model in found})
        near = difflib.get_close_matches(name, every, 3, 0.4)
        raise ExternalError(
            f"{reference}: RobustBench has no such model for {workload.data}"
            + (f"; did you mean {', '.join(near)}?" if near else "")
        )
    ids = models[threat][name]["gdrive_id"]
    files = [f"{name}_m{number}.pt" for number in range(len(ids))] if isinstance(ids, list) else [f"{name}.pt"]
    if ids is None:
        raise ExternalError(f"{reference}: comes through timm's hub alone; load it in a FILE.py:function of your own")
    if weights is None:
        raise ExternalError(f"{reference}: nothing is downloaded here: get {files[0]} and give --weights FILE")
    with tempfile.TemporaryDirectory() as folder:
        root = _laid_out(weights, Path(folder), _ZOO_DATA[workload.data], threat, files)
        for file in files:  # RobustBench may read them without limits
            state_dicts.unpickled(root / _ZOO_DATA[workload.data] / threat / file)
        try:
            network: nn.Module = loading.load_model(name, root, _ZOO_DATA[workload.data], threat)
        except (RuntimeError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            raise ExternalError(f"{weights}: not a checkpoint of {name} ({first_words(error)})") from None
    digest = file_sha256(weights) if weights.is_file() else None
    return network, Origin(reference, "zoo", f"{name} ({threat})", digest)


def _laid_out(weights: Path, folder: Path, data: str, threat: str, files: list[str]) -> Path:
    """Return a folder in RobustBench's layout in which every file is there, so that nothing is downloaded."""
    if weights.is_dir():
        absent = [file for file in files if not (weights / data / threat / file).is_file()]
        if absent:
            raise ExternalError(f"{weights}: no {data}/{threat}/{absent[0]} in it")
        return weights
    if not weights.is_file():
        raise ExternalError(f"{weights}: no such file")
    if len(files) > 1:
        raise ExternalError(f"an ensemble of {len(files)} files: give --weights the folder that holds {data}/{threat}/")
    place = folder / data / threat
    place.mkdir(parents=True)
    (place / files[0]).symlink_to(weights.resolve())
    return folder


def check(opened: OpenedNetwork, workload: Workload, x: Tensor) -> str | None:
    """Try a network on a few test images (n ≥ 3), before hours are spent.

    Returns:
        Why no gradient can be taken, so that only attacks without gradients mean anything; None: it can.

    Raises:
        ExternalError: for images outside [0,1], a network that does not take them, gives other than `num_classes`
            finite logits for each, or takes one size of batch only; one line.
    """
    name = opened.origin.reference
    low, high = x.amin().item(), x.amax().item()
    if not (low >= 0 and high <= 1 and bool(x.isfinite().all())):
        raise ExternalError(f"{workload.data}: images must be in [0,1], these span [{low:.4g}, {high:.4g}]")
    for size in (3, 1):
        logits = _tried(opened, x[:size], name)
        if logits.dim() != 2 or len(logits) != size:
            raise ExternalError(f"{name}: must give logits ({size}, classes), it gives {tuple(logits.shape)}")
        if logits.shape[1] != workload.num_classes:
            raise ExternalError(
                f"{name}: has {logits.shape[1]} classes, {workload.data} has {workload.num_classes}: "
                "choose the data it was made for with --protocol"
            )
        if not bool(logits.isfinite().all()):
            raise ExternalError(f"{name}: gives logits that are NaN or infinite on clean test images")
    if not isinstance(opened.network, ExternalNetwork):
        return None
    opened.network.try_gradient(x[:3])
    return opened.network.without_gradient


def _tried(opened: OpenedNetwork, x: Tensor, name: str) -> Tensor:
    try:
        with torch.no_grad(), evaluating(opened.network):
            logits = opened.network(x)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (anything may happen in a network of the user)
        hint = "; export it with a dynamic batch dimension" if opened.origin.kind == "exported" else ""
        raise ExternalError(f"{name}: does not take images {tuple(x.shape)}: {first_words(error)}{hint}") from None
    if not isinstance(logits, Tensor):
        raise ExternalError(f"{name}: gives a {type(logits).__name__}, not a tensor of logits")
    return logits
