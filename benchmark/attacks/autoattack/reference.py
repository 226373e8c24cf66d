"""AutoAttack standard (Croce and Hein, ICML 2020) through its maintained implementation, one attack at a time.

The engine's own run over all attacks would draw from one seed and keep its own survivors. Here each attack gets a seed
of its own and the survivors that the evaluator left.
"""

import hashlib
from importlib import metadata
from typing import Any

from pyautoattack import AutoAttack
from torch import Tensor, nn

from advbench.benchmark.models.robustbench import contained
from advbench.benchmark.records.schema import STAGES

STANDARD_TARGETS = 9
FEWEST_CLASSES = 4


def targets(num_classes: int) -> int:
    """Target classes of APGD-T and FAB-T: 9, or all others where there are fewer than ten classes."""
    return min(STANDARD_TARGETS, num_classes - 1)


def seed_of(digest: str, run_seed: int, attack: str, shard: int) -> int:
    """First 31 bits of sha256 over "digest|run seed|attack|shard"."""
    text = f"{digest}|{run_seed}|{attack}|{shard}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def propose(
    network: nn.Module, x: Tensor, y: Tensor, *, eps: float, attack: str, seed: int, num_classes: int
) -> tuple[Tensor, list[str]]:
    """Run one attack of the standard version in one batch over images that are still right.

    Returns:
        What the engine proposes, the clean image where it found nothing, and the engine's warnings.
    """
    if attack not in STAGES:
        raise ValueError(f"no attack {attack!r} in AutoAttack standard; it has {', '.join(STAGES)}")
    with contained(x.device) as warnings:
        # Built as "standard" and then narrowed: "custom" would leave APGD-CE at five restarts.
        engine = AutoAttack(network, norm="Linf", eps=eps, seed=seed, version="standard", device=x.device)
        engine.verbose = False
        engine.apgd_targeted.n_target_classes = engine.fab.n_target_classes = targets(num_classes)
        engine.attacks_to_run = [attack]
        x_adv, _labels = engine.run_standard_evaluation(x, y, batch_size=len(x))
    return x_adv.detach(), sorted(set(warnings))


def settings(num_classes: int) -> dict[str, Any]:
    """Describe the engine and its parameters for the record."""
    return {
        "attack": "AutoAttack",
        "version": "standard",
        "standard": num_classes > STANDARD_TARGETS,
        "engine": f"pyautoattack {metadata.version('pyautoattack')}",
        "attacks": list(STAGES),
        "targets": targets(num_classes),
        "iterations": 100,
        "restarts": 1,
        "queries": 5000,
        "seed": "first 31 bits of sha256(protocol digest | run seed | attack | shard)",
    }
