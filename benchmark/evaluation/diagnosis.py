"""The whole examination of one network, as data: what the attacks say, and whether they can be believed. L∞.

Six experiments beside the flags, each from Carlini et al. (2019), "On Evaluating Adversarial Robustness", or Athalye et
al. (2018): accuracy against eps must fall to zero; more steps must not leave more; the loss must rise and settle;
noise must be weaker than gradients; examples of other networks must be weaker than its own; attacks must find much the
same images. `reports/diagnosis.py` draws what is measured here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench.benchmark.attacks import pgd, random_starts
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.attacks.sign_ascent import sign_steps
from advbench.benchmark.attacks.wrapped_network import ForwardError, View, frozen, strict_fp32
from advbench.benchmark.data.splits import Split
from advbench.benchmark.evaluation.evaluator import dispose, predicted
from advbench.benchmark.evaluation.other_threats import measure, pieces
from advbench.benchmark.evaluation.threats import Setting
from advbench.benchmark.losses import ce_each, ce_sum, margin_each
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.flags import ABOUT
from advbench.benchmark.records.outcomes import EvaluationError

FACTORS = tuple(Fraction(one) for one in ("1/4", "1/2", "3/4", "1", "3/2", "2", "3", "4"))
"""Radii that are tried, in units of the protocol's; 1/2 of the image range follows them."""
STEPS = (1, 2, 5, 10, 20, 50, 100)
NOISE_DRAWS = (1, 2, 5, 10, 20, 50)
QUANTILES = (0.1, 0.5, 0.9)
_SWEEP_STEPS = 20
Say = Callable[[str], None]


@dataclass
class _Bench:
    """A network with the images that it is examined on, in shards."""

    view: View
    shards: list[tuple[int, Tensor, Tensor]]
    protocol: Protocol
    peers: Mapping[str, nn.Module]
    right: list[Tensor] = field(default_factory=list)

    @property
    def eps(self) -> float:
        return float(self.protocol.threat.eps)

    def unit(self, first: int, x: Tensor, family: str, draw: int = 0) -> Tensor:
        images = range(first, first + len(x))
        return random_starts.uniform(self.protocol.digest, family, images, x.shape[1:], draw=draw).to(x.device)

    def judge(self, proposal: Tensor, x: Tensor, y: Tensor, right: Tensor, eps: float) -> Tensor:
        with torch.no_grad():
            return right & (predicted(self.view(dispose(proposal, x, eps))) == y)

    def share(self, outcomes: Sequence[Tensor]) -> float:
        """Accuracy over all shards."""
        return float(torch.cat([one.double() for one in outcomes]).mean())


def diagnose(
    network: nn.Module,
    split: Split,
    *,
    protocol: Protocol,
    images: int,
    num_classes: int,
    peers: Mapping[str, nn.Module] | None = None,
    autoattack: bool = True,
    say: Say = lambda _said: None,
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
    setting = Setting("linf", protocol.threat.eps, families)
    setting.check((1,), num_classes)
    measurement = measure(
        network,
        split,
        setting,
        protocol=protocol,
        images=images,
        num_classes=num_classes,
        peers=peers,
        on_shard=lambda family, done, total: say(f"{family}, shard {done + 1} of {total}"),
    )
    device = split.labels.device
    bench = _Bench(View(network), list(pieces(split, images, protocol.attacks.shard)), protocol, dict(peers or {}))
    try:
        with frozen(network), strict_fp32(device):
            for _, x, y in bench.shards:
                with torch.no_grad():
                    bench.right.append(predicted(bench.view(x)) == y)
            found = {}
            for name, experiment in _EXPERIMENTS.items():
                say(name)
                found[name] = experiment(bench)
    except ForwardError as error:
        raise EvaluationError(str(error)) from error.__cause__
    columns = {name: one.correct for name, one in measurement.evaluation.columns.items()}
    return {
        "kind": "diagnosis",
        "eps": str(protocol.threat.eps),
        "images": images,
        "test": len(split),
        "clean": bench.share(bench.right),
        "columns": {name: float(correct.mean()) for name, correct in columns.items()},
        "agreement": _agreement(columns),
        "flags": [
            {**flag.model_dump(mode="json"), "sign": ABOUT[flag.name].sign, "mend": ABOUT[flag.name].mend}
            | {"url": ABOUT[flag.name].url}
            for flag in measurement.evaluation.flags
            if flag.kind == "masking"
        ],
        **found,
    }


def _against_eps(bench: _Bench) -> dict[str, Any]:
    """Accuracy under PGD-20, cross-entropy and margin, at growing radii; noise beside it."""
    radii = sorted({min(factor * bench.protocol.threat.eps, Fraction(1, 2)) for factor in FACTORS} | {Fraction(1, 2)})
    curves: dict[str, list[float]] = {"cross-entropy": [], "margin": [], "noise": []}
    for radius in radii:
        eps = float(radius)
        for name, loss in (("cross-entropy", ce_sum), ("margin", margin_sum), ("noise", None)):
            outcomes = []
            for (first, x, y), right in zip(bench.shards, bench.right, strict=True):
                x_adv = pgd.start(x, bench.unit(first, x, "diagnosis"), eps)
                if loss is not None:
                    (x_adv,) = pgd.iterates(
                        bench.view, x, y, x_adv, eps=eps, step=eps / 4, at=[_SWEEP_STEPS], loss=loss
                    )
                outcomes.append(bench.judge(x_adv, x, y, right, eps))
            curves[name].append(bench.share(outcomes))
    return {"eps": [str(radius) for radius in radii], "curves": curves, "steps": _SWEEP_STEPS}


def _against_steps(bench: _Bench) -> dict[str, Any]:
    """Accuracy after growing numbers of steps from one start, and the losses at every step on the way."""
    step = float(bench.protocol.attacks.pgd20.step)
    curves: dict[str, list[float]] = {}
    losses: dict[str, Any] = {}
    for name, loss, each in (("cross-entropy", ce_sum, ce_each), ("margin", margin_sum, margin_each)):
        outcomes: dict[int, list[Tensor]] = {count: [] for count in STEPS}
        seen: list[Tensor] = []
        for (first, x, y), right in zip(bench.shards, bench.right, strict=True):
            path: list[Tensor] = []

            def objective(z: Tensor, y: Tensor = y, path: list[Tensor] = path) -> Tensor:
                logits = bench.view(z)
                path.append(each(logits.detach().double(), y))  # noqa: B023 (called before the loop goes on)
                return loss(logits, y)  # noqa: B023

            x_adv, done = pgd.start(x, bench.unit(first, x, "pgd"), bench.eps), 0
            for count in STEPS:
                x_adv = sign_steps(x, x_adv, objective, eps=bench.eps, step=step, steps=count - done)
                done = count
                outcomes[count].append(bench.judge(x_adv, x, y, right, bench.eps))
            seen.append(torch.stack(path))
        curves[name] = [bench.share(outcomes[count]) for count in STEPS]
        losses[name] = _quantiles(torch.cat(seen, dim=1), torch.cat(bench.right))
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


def _against_noise(bench: _Bench) -> dict[str, Any]:
    """Accuracy under the worst of growing numbers of draws of uniform noise."""
    alive = [right.clone() for right in bench.right]
    accuracies, done = [], 0
    for count in NOISE_DRAWS:
        for draw in range(done, count):
            for number, (first, x, y) in enumerate(bench.shards):
                noisy = pgd.start(x, bench.unit(first, x, "noise", draw), bench.eps)
                alive[number] = bench.judge(noisy, x, y, alive[number], bench.eps)
        done = count
        accuracies.append(bench.share(alive))
    return {"draws": list(NOISE_DRAWS), "accuracy": accuracies}


def _against_peers(bench: _Bench) -> dict[str, float]:
    """Accuracy on PGD-20 examples made on each peer, and on its own."""
    spec, accuracies = bench.protocol.attacks.pgd20, {}
    for name, peer in {"itself": bench.view.network, **bench.peers}.items():
        outcomes = []
        with frozen(peer):
            for (first, x, y), right in zip(bench.shards, bench.right, strict=True):
                start = pgd.start(x, bench.unit(first, x, "transfer"), bench.eps)
                (x_adv,) = pgd.iterates(View(peer), x, y, start, eps=bench.eps, step=float(spec.step), at=[spec.steps])
                outcomes.append(bench.judge(x_adv, x, y, right, bench.eps))
        accuracies[name] = bench.share(outcomes)
    return accuracies


_EXPERIMENTS: dict[str, Callable[[_Bench], Any]] = {
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
