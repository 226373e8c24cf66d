"""AutoAttack's versions off the main board, which is L∞ "standard": L2 "standard", and "rand" for randomised networks.

Croce and Hein (ICML 2020) through the maintained implementation, one attack at a time; see `autoattack.propose`.
"""

from importlib import metadata
from typing import Any

from pyautoattack import AutoAttack
from torch import Tensor, nn

from advbench.benchmark.attacks import autoattack
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.models.robustbench import contained

RAND_STAGES = ("apgd-ce", "apgd-dlr")
"""The attacks of the version for randomised defenses."""


def propose_l2(
    network: nn.Module, x: Tensor, y: Tensor, *, eps: float, attack: str, seed: int, num_classes: int
) -> tuple[Tensor, list[str]]:
    """Run one attack of the standard L2 version in one batch; return proposals and the engine's warnings."""
    with contained(x.device) as warnings:
        engine = AutoAttack(network, norm="L2", eps=eps, seed=seed, version="standard", device=x.device)
        engine.apgd_targeted.n_target_classes = engine.fab.n_target_classes = autoattack.targets(num_classes)
        return _run(engine, x, y, attack), sorted(set(warnings))


def propose_rand(
    network: nn.Module, x: Tensor, y: Tensor, *, ball: Ball, attack: str, seed: int, eot: int
) -> tuple[Tensor, list[str]]:
    """Run one of `RAND_STAGES` in one batch, gradients averaged over `eot` draws; L∞ or L2."""
    norm = "Linf" if ball.norm == "linf" else "L2"
    with contained(x.device) as warnings:
        engine = AutoAttack(network, norm=norm, eps=ball.eps, seed=seed, version="rand", device=x.device)
        engine.apgd.eot_iter = eot
        return _run(engine, x, y, attack), sorted(set(warnings))


def rand_settings(eot: int) -> dict[str, Any]:
    """Describe the version for randomised networks."""
    return {
        "attack": "AutoAttack",
        "version": f"rand, EOT {eot}",
        "engine": f"pyautoattack {metadata.version('pyautoattack')}",
        "attacks": list(RAND_STAGES),
    }


def _run(engine: AutoAttack, x: Tensor, y: Tensor, attack: str) -> Tensor:
    engine.verbose = False
    engine.attacks_to_run = [attack]
    x_adv: Tensor = engine.run_standard_evaluation(x, y, batch_size=len(x))[0]
    return x_adv.detach()
