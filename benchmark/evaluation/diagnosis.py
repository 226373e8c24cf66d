"""Diagnosis of one network, as data: outcomes of the attacks, and whether they can be believed. L∞.

Six experiments beside the flags, each from Carlini et al. (2019), "On Evaluating Adversarial Robustness", or Athalye et
al. (2018): accuracy against eps must fall to zero; more steps must not leave more; the loss must rise and settle;
noise must be weaker than gradients; examples of other networks must be weaker than its own; attacks must find much the
same images. `reports/diagnosis.py` draws what is measured here.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.data.splits import Split
from advbench.benchmark.evaluation.arena import Arena, ThreatModel, entered
from advbench.benchmark.evaluation.other_threats import AttackPlan, measure, pieces
from advbench.benchmark.losses import ce_each, ce_sum, margin_each
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.flags import ABOUT

FACTORS = tuple(Fraction(factor) for factor in ("1/4", "1/2", "3/4", "1", "3/2", "2", "3", "4"))
"""Radii that are tried, in units of the protocol's; 1/2 of the image range follows them."""
STEPS = (1, 2, 5, 10, 20, 50, 100)
NOISE_DRAWS = (1, 2, 5, 10, 20, 50)
QUANTILES = (0.1, 0.5, 0.9)
_SWEEP_STEPS = 20
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Examined:
    """A network in an arena for each shard of the images that it is examined on."""

    arenas: list[Arena]
    peers: Mapping[str, nn.Module]

    def share(self, outcomes: Sequence[Tensor]) -> float:
        """Return the accuracy over all shards."""
        return float(torch.cat([outcome.double() for outcome in outcomes]).mean())


def diagnose(
    network: nn.Module,
    split: Split,
    *,
    protocol: Protocol,
    images: int,
    num_classes: int,
    peers: Mapping[str, nn.Module] | None = None,
    autoattack: bool = True,
    say: Say = lambda _text: None,
) -> dict[str, Any]:
    """Examine a network on the first `images` test images; return JSON data.

    Args:
        network: images in [0,1] to logits, on the split's device.
        split: the test set.
        protocol: radius, steps, shard size, thresholds of the flags.
        images: how many test images, from the first on.
        num_classes: logits that it must give.
        peers: networks by name whose examples are tried on it.
        autoattack: whether AutoAttack runs, by far the costliest part.
        say: told what is being done.

    Raises:
        EvaluationError: for bad input; one line.
    """
    families = ("clean", "pgd", "cw", *(("autoattack",) if autoattack else ()))
    plan = AttackPlan(ThreatModel(protocol.threat.norm, protocol.threat.eps), families)
    plan.check((1,), num_classes)
    measurement = measure(
        network,
        split,
        plan,
        protocol=protocol,
        images=images,
        num_classes=num_classes,
        peers=peers,
        on_shard=lambda family, done, total: say(f"{family}, shard {done + 1} of {total}"),
    )
    found = {}
    with ExitStack() as stack:
        arenas = [
            stack.enter_context(entered(network, x, y, images=range(first, first + len(x)), protocol=protocol))
            for first, x, y in pieces(split, images, protocol.attacks.shard)
        ]
        examined = _Examined(arenas, dict(peers or {}))
        clean = examined.share([arena.right for arena in arenas])
        for name, experiment in _EXPERIMENTS.items():
            say(name)
            found[name] = experiment(examined)
    columns = {name: outcomes.correct for name, outcomes in measurement.evaluation.columns.items()}
    return {
        "kind": "diagnosis",
        "norm": protocol.threat.norm,
        "eps": str(protocol.threat.eps),
        "images": images,
        "test": len(split),
        "clean": clean,
        "columns": {name: float(correct.mean()) for name, correct in columns.items()},
        "agreement": _agreement(columns),
        "flags": [
            {**flag.model_dump(mode="json"), "sign": ABOUT[flag.name].sign, "hint": ABOUT[flag.name].hint}
            | {"url": ABOUT[flag.name].url}
            for flag in measurement.evaluation.flags
            if flag.kind == "masking"
        ],
        **found,
    }


def _against_eps(examined: _Examined) -> dict[str, Any]:
    """Accuracy under PGD-20, cross-entropy and margin, at growing radii; noise beside it."""
    own = examined.arenas[0].threat
    side = 1 if own.norm == "linf" else math.isqrt(examined.arenas[0].x[0].numel())
    grey = Fraction(side, 2)  # in L2, where the side is exact, the radius at which every image can become grey
    radii = sorted({min(factor * own.eps, grey) for factor in FACTORS} | {grey})
    curves: dict[str, list[float]] = {"cross-entropy": [], "margin": [], "noise": []}
    for radius in radii:
        threat = ThreatModel(own.norm, radius)
        for name, loss in (("cross-entropy", ce_sum), ("margin", margin_sum), ("noise", None)):
            outcomes = []
            for shard in examined.arenas:
                arena = dataclasses.replace(shard, threat=threat)
                x_adv = arena.start("diagnosis")
                if loss is not None:
                    x_adv = arena.ascend(x_adv, loss, steps=_SWEEP_STEPS, step=threat.ball.eps / 4)
                outcomes.append(arena.judge(x_adv).right)
            curves[name].append(examined.share(outcomes))
    return {"eps": [str(radius) for radius in radii], "curves": curves, "steps": _SWEEP_STEPS}


def _against_steps(examined: _Examined) -> dict[str, Any]:
    """Accuracy after growing numbers of steps from one start, and the losses at every step on the way."""
    curves: dict[str, list[float]] = {}
    losses: dict[str, Any] = {}
    for name, loss, each in (("cross-entropy", ce_sum, ce_each), ("margin", margin_sum, margin_each)):
        outcomes: dict[int, list[Tensor]] = {count: [] for count in STEPS}
        seen: list[Tensor] = []
        for arena in examined.arenas:
            path: list[Tensor] = []

            def recorded(logits: Tensor, y: Tensor, path: list[Tensor] = path) -> Tensor:
                path.append(each(logits.detach().double(), y))  # noqa: B023 (called before the loop goes on)
                return loss(logits, y)  # noqa: B023 (called before the loop goes on)

            x_adv, done = arena.start("pgd"), 0
            for count in STEPS:
                step = float(arena.protocol.attacks.pgd20.step)
                x_adv = arena.ascend(x_adv, recorded, steps=count - done, step=step)
                done = count
                outcomes[count].append(arena.judge(x_adv).right)
            seen.append(torch.stack(path))
        curves[name] = [examined.share(outcomes[count]) for count in STEPS]
        right = torch.cat([arena.right for arena in examined.arenas])
        losses[name] = _quantiles(torch.cat(seen, dim=1), right)
    return {"steps": list(STEPS), "curves": curves, "losses": losses}


def _quantiles(losses: Tensor, right: Tensor) -> dict[str, list[float | None]]:
    """Return quantiles of the losses (steps, images) over images that are right when clean; None where not finite."""
    kept = losses[:, right] if bool(right.any()) else losses
    rows = torch.quantile(
        kept.nan_to_num(nan=math.inf), torch.tensor(QUANTILES, dtype=kept.dtype).to(kept.device), dim=1
    )
    return {
        str(quantile): [value if math.isfinite(value) else None for value in row.tolist()]
        for quantile, row in zip(QUANTILES, rows, strict=True)
    }


def _against_noise(examined: _Examined) -> dict[str, Any]:
    """Accuracy under the worst of growing numbers of draws of uniform noise."""
    alive = [arena.right.clone() for arena in examined.arenas]
    accuracies, done = [], 0
    for count in NOISE_DRAWS:
        for draw in range(done, count):
            for number, arena in enumerate(examined.arenas):
                alive[number] &= arena.judge(arena.start("noise", draw)).right
        done = count
        accuracies.append(examined.share(alive))
    return {"draws": list(NOISE_DRAWS), "accuracy": accuracies}


def _against_peers(examined: _Examined) -> dict[str, float]:
    """Accuracy on PGD-20 examples made on each peer, and on its own."""
    itself = examined.arenas[0].view.network
    return {
        name: examined.share([arena.judge(arena.examples_of(source)).right for arena in examined.arenas])
        for name, source in {"itself": itself, **examined.peers}.items()
    }


_EXPERIMENTS: dict[str, Callable[[_Examined], Any]] = {
    "against_eps": _against_eps,
    "against_steps": _against_steps,
    "against_noise": _against_noise,
    "against_peers": _against_peers,
}


def _agreement(columns: Mapping[str, "np.ndarray[Any, np.dtype[np.bool_]]"]) -> dict[str, Any]:
    """Of the images that one attack fools, the share that another fools, too; images wrong when clean do not count."""
    attacks = [name for name in columns if name != "clean"]
    fooled = {name: columns["clean"] & ~columns[name] for name in attacks}
    table: list[list[float | None]] = [
        [float(fooled[b][fooled[a]].mean()) if fooled[a].any() else None for b in attacks] for a in attacks
    ]
    return {"attacks": attacks, "also": table, "fooled": [int(fooled[name].sum()) for name in attacks]}
