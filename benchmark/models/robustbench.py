"""The bridge to pyautoattack and RobustBench: everything that those packages need to live in one process with this one.

pyautoattack's check for dynamic defenses switches off any tracer (coverage, debuggers) and counts into a module-wide
table that is never cleared; its warnings go to a logger that prints without being asked. RobustBench imports a package
called `autoattack` and calls it with the arguments of the original release, which pyautoattack renamed.
"""

import contextlib
import importlib
import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from pyautoattack import AutoAttack, checks
from torch import Tensor, nn

from advbench.benchmark import torchvision_import
from advbench.benchmark.models.torch_state import isolated_rng

_LOGGER = "auto-attack"


class BridgeError(RuntimeError):
    """RobustBench is missing or unusable; the message is one line."""


class _Collector(logging.Handler):
    """Keep messages instead of printing them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def contained(device: torch.device) -> Iterator[list[str]]:
    """Run pyautoattack inside without a trace outside; yield the list that its warnings end up in.

    Restores the trace function, the engine's module-wide table, torch's random states and the logger.
    """
    logger, collector = logging.getLogger(_LOGGER), _Collector()
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    tracer, table = sys.gettrace(), dict(checks.funcs)
    checks.funcs.update(dict.fromkeys(table, 0))
    logger.handlers, logger.propagate = [collector], False
    logger.setLevel(logging.WARNING)
    try:
        with isolated_rng(device):
            yield collector.messages
    finally:
        sys.settrace(tracer)
        checks.funcs.update(table)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


class Original:
    """AutoAttack with the signature of the original release, answered by pyautoattack.

    Attributes:
        x_adv: what the last run returned.
    """

    def __init__(self, model: nn.Module, *, log_path: object = None, **arguments: Any) -> None:  # noqa: ANN401, ARG002 (theirs)
        self.engine = AutoAttack(model, **arguments)
        self.engine.verbose = False
        self.x_adv: Tensor | None = None

    def run_standard_evaluation(self, x: Tensor, y: Tensor, *, bs: int = 250, state_path: Path | None = None) -> Tensor:
        """Return the adversarial images alone, as the original does."""
        x_adv: Tensor = self.engine.run_standard_evaluation(x, y, batch_size=bs, state_path=state_path)[0]
        self.x_adv = x_adv
        return x_adv


def robustbench(part: str = "eval") -> ModuleType:
    """Import `robustbench.<part>`; while that lasts, `import autoattack` gives pyautoattack.

    Raises:
        BridgeError: if robustbench, or something that it needs, is not installed.
    """
    state = importlib.import_module("pyautoattack.state")
    alias = ModuleType("autoattack")
    alias.__dict__.update(AutoAttack=Original, state=state)
    stand_in = {"autoattack": alias, "autoattack.state": state}
    before = {name: sys.modules.get(name) for name in stand_in}
    sys.modules.update(stand_in)
    try:
        torchvision_import.module()  # RobustBench imports torchvision, which may need fixing first
        return importlib.import_module(f"robustbench.{part}")
    except ModuleNotFoundError as error:
        raise BridgeError(f'{error.name} is not installed: pip install "advbench[robustbench]"') from None
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Benchmarked(NamedTuple):
    """RobustBench's judgement of a network: two accuracies in [0,1], and the adversarial images that it judged."""

    clean: float
    robust: float
    x_adv: Tensor


@contextmanager
def _replaced(owner: object, **values: object) -> Iterator[None]:
    """Hold other attributes inside; restore them afterwards."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def benchmark(network: nn.Module, x: Tensor, y: Tensor, *, eps: float, batch_size: int, seed: int) -> Benchmarked:
    """Run `robustbench.eval.benchmark` (L∞, CIFAR-10's conventions) on the images given, with a seed of our choosing.

    RobustBench loads its own test set and takes the clock as the seed; these two are replaced, nothing else is.
    """
    module = robustbench()
    made: list[Original] = []

    def seeded(model: nn.Module, **arguments: Any) -> Original:  # noqa: ANN401 (theirs)
        made.append(Original(model, seed=seed, **arguments))
        return made[-1]

    with (
        contained(x.device),
        _replaced(module, AutoAttack=seeded, load_clean_dataset=lambda *_arguments: (x, y)),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        clean, robust = module.benchmark(
            network, n_examples=len(x), threat_model="Linf", eps=eps, batch_size=batch_size, device=x.device
        )
    if len(made) != 1 or made[0].x_adv is None:
        raise BridgeError("robustbench.eval.benchmark did not run AutoAttack once; the bridge knows robustbench 1.1.1")
    return Benchmarked(clean, robust, made[0].x_adv)
