"""Load what was exported to RobustBench with its own `load_model`, and hold its logits against ours."""

import contextlib
import io
import runpy
from dataclasses import dataclass

import torch
from torch import nn

from advbench.benchmark.models import robustbench
from advbench.benchmark.models.robustbench_export import LEADERBOARDS, THREAT, Exported, ExportError
from advbench.benchmark.models.torch_state import isolated_rng


@dataclass(frozen=True)
class Agreement:
    """How the network that RobustBench loads compares with ours on some images.

    Attributes:
        same: images of which both give the same class; difference: largest between two logits.
    """

    images: int
    same: int
    difference: float


def compare(exported: Exported, network: nn.Module, images: int = 16) -> Agreement:
    """Load what was exported with RobustBench's own `load_model`, and hold its logits against ours.

    Raises:
        BridgeError: without robustbench.
        ExportError: if RobustBench cannot load it.
    """
    side = LEADERBOARDS[exported.dataset].side
    x = torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with isolated_rng():
            theirs = load(exported)
    except (RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        if isinstance(error, robustbench.BridgeError):
            raise
        raise ExportError(f"{exported.name}: RobustBench cannot load it ({str(error).splitlines()[0]})") from error
    with torch.no_grad():
        ours, other = network.cpu().eval()(x), theirs(x)
    same = int((ours.argmax(1) == other.argmax(1)).sum())
    return Agreement(images, same, float((ours - other).abs().amax()))


def load(exported: Exported) -> nn.Module:
    """Return the network that RobustBench's `load_model` makes of what was exported, as if the entry were in its zoo.

    Raises:
        BridgeError: without robustbench.
        ExportError: if its zoo has another model of this name.
    """
    loading = robustbench.robustbench("utils")
    tables = {
        (data.value, threat.value): models
        for data, threats in loading.all_models.items()
        for threat, models in threats.items()
    }
    models = tables[exported.dataset, THREAT]
    if exported.name in models:
        raise ExportError(f"RobustBench has a model named {exported.name}: give another name")
    name, entry = runpy.run_path(str(exported.entry))["ENTRY"]
    models[name] = entry
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            network: nn.Module = loading.load_model(name, exported.weights.parents[2], exported.dataset, THREAT)
    finally:
        del models[name]
    return network
