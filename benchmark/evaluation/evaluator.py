"""The evaluator: network and attack in, outcomes per image out. It sees no method, only weights behind an `nn.Module`.

An attack proposes, the evaluator disposes: it clips the proposal to the ball and to [0,1], asserts both, and judges by
itself in strict fp32. An image is robust if the network is right on the clean image AND on the proposal.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench.benchmark.attacks import autoattack, cw, pgd, random_starts
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.wrapped_network import ForwardError, View, frozen, strict_fp32
from advbench.benchmark.evaluation.masking_probes import Subject, examine
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.outcomes import Cost, EvaluationError, ShardResult, merge
from advbench.benchmark.records.schema import STAGES, Bits

__all__ = ["FAMILIES", "EvaluationError", "ShardResult", "dispose", "evaluate_shard", "merge", "predicted"]

ROUNDING = 2.0**-23
"""fp32 spacing at 1: x + eps is off by no more."""


def predicted(logits: Tensor) -> Tensor:
    """Return the predicted class (B,) of logits (B, C): ties go to the lowest class, −1 where a logit is not finite."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    highest = logits == logits.amax(dim=1, keepdim=True)
    lowest = torch.where(highest, classes, logits.shape[1]).amin(dim=1)
    return torch.where(logits.isfinite().all(dim=1), lowest, -1)


def dispose(proposal: Tensor, x: Tensor, eps: float) -> Tensor:
    """Return the proposal as a legal input: clipped to the ball around x and to [0,1]; a pixel not finite is x's own.

    Raises:
        EvaluationError: if shapes differ, or if what comes out is not in the ball, in [0,1] and finite after all.
    """
    if proposal.shape != x.shape:
        raise EvaluationError(f"an attack returned shape {tuple(proposal.shape)} for images {tuple(x.shape)}")
    kept = torch.where(proposal.isfinite(), proposal.detach().to(x.dtype), x)
    x_adv = torch.clamp(kept, (x - eps).clamp(min=0), (x + eps).clamp(max=1))
    # Judged in float64, apart from the clipping above, which it would catch if it were wrong.
    distance = (x_adv.double() - x.double()).abs().amax().item()
    if not (distance <= eps + ROUNDING and x_adv.amin().item() >= 0 and x_adv.amax().item() <= 1):
        raise EvaluationError(f"an input outside the ball or [0,1] was about to be judged (distance {distance:.9g})")
    return x_adv


@dataclass
class Shard:
    """Images 0 … n−1 of one shard under attack, and what has been found and spent so far.

    Attributes:
        view: the network, frozen.
        x: images (n, C, H, W); y: labels (n,).
        first: test index of the first image.
        right: whether the clean image is classified correctly, bool (n,) on the device.
    """

    view: View
    x: Tensor
    y: Tensor
    first: int
    protocol: Protocol
    seed: int
    ledger: Ledger
    right: Tensor
    result: ShardResult
    started: float
    peers: dict[str, nn.Module]

    @property
    def eps(self) -> float:
        """The radius as the nearest double."""
        return float(self.protocol.threat.eps)

    def start(self, family: str) -> Tensor:
        """Return the family's random start for every image."""
        images = range(self.first, self.first + len(self.x))
        unit = random_starts.uniform(self.protocol.digest, family, images, self.x.shape[1:])
        return pgd.start(self.x, unit.to(self.x.device), self.eps)

    def judge(self, column: str, proposal: Tensor, among: Tensor | None = None) -> Tensor:
        """Say for each image (of the indices `among`) whether it is right on the clean image and on the proposal."""
        x, y, right = (
            (self.x, self.y, self.right) if among is None else (t[among] for t in (self.x, self.y, self.right))
        )
        odd = int((~proposal.isfinite()).flatten(1).any(dim=1).sum())
        x_adv = dispose(proposal, x, self.eps)
        with torch.no_grad():
            logits = self.view(x_adv)
        answer = predicted(logits)
        self.count(f"{column}:proposals_not_finite", odd)
        self.count(f"{column}:adversarial_logits_not_finite", int((answer < 0).sum()))
        return right & (answer == y)

    def count(self, key: str, images: int) -> None:
        """Add to the evidence."""
        self.result.evidence[key] = self.result.evidence.get(key, 0) + images

    def lap(self) -> Cost:
        """Return what was spent since the last lap."""
        now = time.perf_counter()
        cost, self.started = Cost(now - self.started, self.ledger.reset()), now
        return cost

    def column(self, name: str, outcome: Tensor, settings: dict[str, Any], cost: Cost | None = None) -> None:
        """Write a column down."""
        self.result.columns[name] = _bits(outcome)
        self.result.settings[name] = self.common() | settings
        self.result.costs[name] = self.lap() if cost is None else cost

    def warn(self, warnings: Iterable[str]) -> None:
        """Keep what an attack engine has to say."""
        self.result = dataclasses.replace(self.result, warnings=(*self.result.warnings, *warnings))

    def common(self) -> dict[str, Any]:
        """Return what holds for every attack."""
        threat = self.protocol.threat
        return {
            "norm": threat.norm,
            "eps": str(threat.eps),
            "batch": self.protocol.attacks.shard,
            "precision": "strict fp32",
        }


def _bits(outcome: Tensor) -> Bits:
    bits: Bits = outcome.cpu().numpy().astype(np.bool_)
    return bits


def _clean(shard: Shard) -> None:
    shard.column("clean", shard.right, {"attack": "none"})


def _pgd(shard: Shard) -> None:
    attacks = shard.protocol.attacks
    specs = {"pgd20": attacks.pgd20, "pgd100": attacks.pgd100}
    at, step = [spec.steps for spec in specs.values()], attacks.pgd20.step
    with shard.ledger.differentiating("input"):
        run = pgd.iterates(shard.view, shard.x, shard.y, shard.start("pgd"), eps=shard.eps, step=float(step), at=at)
        for (name, spec), x_adv in zip(specs.items(), run, strict=True):
            settings = _iterated("PGD", "cross-entropy", spec.steps, str(step))
            if name == "pgd100":
                settings["shares"] = f"its first {at[0]} steps are those of pgd20 and counted there"
            shard.column(name, shard.judge(name, x_adv), settings)


def _cw(shard: Shard) -> None:
    spec = shard.protocol.attacks.cw
    with shard.ledger.differentiating("input"):
        x_adv = cw.last_iterate(
            shard.view,
            shard.x,
            shard.y,
            shard.start("cw"),
            eps=shard.eps,
            step=float(spec.step),
            steps=spec.steps,
        )
    shard.column("cw", shard.judge("cw", x_adv), _iterated("CW", "margin", spec.steps, str(spec.step)))


def _iterated(attack: str, loss: str, steps: int, step: str) -> dict[str, Any]:
    start = "uniform, one restart, Philox4x64-10 by (protocol, family, image)"
    return {"attack": attack, "loss": loss, "steps": steps, "step": step, "start": start, "iterate": "last"}


def _autoattack(shard: Shard) -> None:
    attacks, classes = shard.protocol.attacks, shard.view.num_classes
    if classes < autoattack.FEWEST_CLASSES:
        raise EvaluationError(f"AutoAttack's targeted DLR loss needs 4 classes or more; the network has {classes}")
    alive, total = shard.right.clone(), Cost()
    for attack in STAGES:
        among = alive.nonzero().flatten()
        if len(among):
            seed = autoattack.seed_of(shard.protocol.digest, shard.seed, attack, shard.first // attacks.shard)
            with shard.ledger.differentiating("input"):
                proposal, warnings = autoattack.propose(
                    shard.view,
                    shard.x[among],
                    shard.y[among],
                    eps=shard.eps,
                    attack=attack,
                    seed=seed,
                    num_classes=classes,
                )
            alive[among] = shard.judge("autoattack", proposal, among)
            shard.warn(f"{attack}: {warning}" for warning in warnings)
        shard.result.stages[attack] = _bits(alive)
        shard.result.settings[attack] = {"attack": attack}
        shard.result.costs[attack] = shard.lap()
        total += shard.result.costs[attack]
    shard.column("autoattack", alive, autoattack.settings(classes), total)


def _examination(shard: Shard) -> None:
    subject = Subject(
        view=shard.view,
        x=shard.x,
        y=shard.y,
        right=shard.right,
        first=shard.first,
        ball=Ball("linf", shard.eps),
        protocol=shard.protocol,
        ledger=shard.ledger,
        predict=predicted,
    )
    shard.result.evidence.update(examine(subject, shard.peers))
    shard.result.costs["examination"] = shard.lap()


_ATTACKS: dict[str, Callable[[Shard], None]] = {
    "clean": _clean,
    "pgd": _pgd,
    "cw": _cw,
    "autoattack": _autoattack,
    "examination": _examination,
}
FAMILIES = tuple(_ATTACKS)
"""Units of work of `evaluate_shard`."""


def evaluate_shard(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    first: int,
    family: str,
    protocol: Protocol,
    seed: int,
    num_classes: int | None = None,
    peers: Mapping[str, nn.Module] | None = None,
) -> ShardResult:
    """Attack one shard with one family of attacks, in one batch; the network is left as it was found.

    Args:
        network: takes images (n, C, H, W) in [0,1] and gives logits (n, classes); normalisation is inside it.
        x: float32 test images first … first + n − 1, on the network's device.
        y: labels (n,), int64.
        first: test index of the first image, a multiple of `protocol.attacks.shard`.
        family: one of `FAMILIES`.
        protocol: threat, attacks and their settings.
        seed: the run's seed; AutoAttack's seeds are derived from it.
        num_classes: how many logits the network must give; None accepts any number that covers the labels.
        peers: for the examination: networks by name whose PGD-20 examples are tried on this one.

    Raises:
        EvaluationError: if images, labels, network or protocol cannot be evaluated; one line, before the attack starts.
    """
    _check_arguments(x, y, first, family, protocol)
    ledger = Ledger()
    view = View(network)
    ledger.watch(view)
    try:
        with frozen(network), strict_fp32(x.device):
            started = time.perf_counter()
            answer = predicted(_clean_logits(view, x, y, num_classes))
            result = ShardResult(family=family, first=first, predictions=answer.cpu().numpy().astype(np.int64))
            shard = Shard(view, x, y, first, protocol, seed, ledger, answer == y, result, started, dict(peers or {}))
            _ATTACKS[family](shard)
    except ForwardError as error:
        raise EvaluationError(str(error)) from error.__cause__
    except torch.OutOfMemoryError:
        raise EvaluationError(
            f"{family}: a shard of {len(x)} images does not fit into the memory of {x.device}; "
            "a protocol of your own can set a smaller attacks.shard"
        ) from None
    return shard.result


def _check_arguments(x: Tensor, y: Tensor, first: int, family: str, protocol: Protocol) -> None:
    """Refuse what no network could be evaluated on."""
    if family not in FAMILIES:
        raise EvaluationError(f"no family of attacks {family!r}; there are {', '.join(FAMILIES)}")
    eps, size = protocol.threat.eps, protocol.attacks.shard
    if not 0 < eps <= 1:
        raise EvaluationError(f"eps must be above 0 and at most 1 (images are in [0,1]), got {eps}")
    if x.dim() != 4 or x.dtype != torch.float32 or len(x) == 0:
        raise EvaluationError(f"images must be float32 (n, C, H, W), n > 0; got {x.dtype} {tuple(x.shape)}")
    if y.shape != x.shape[:1] or y.dtype != torch.int64 or int(y.amin()) < 0:
        raise EvaluationError(f"labels must be int64 ({len(x)},), 0 or above; got {y.dtype} {tuple(y.shape)}")
    low, high = x.amin().item(), x.amax().item()
    if not (low >= 0 and high <= 1 and bool(x.isfinite().all())):
        raise EvaluationError(
            f"images must be finite and in [0,1], these span [{low:.4g}, {high:.4g}]; normalise inside the network"
        )
    if len(x) > size or first < 0 or first % size:
        raise EvaluationError(f"a shard is {size} images from a multiple of {size} on; got {len(x)} from {first} on")


def _clean_logits(view: View, x: Tensor, y: Tensor, num_classes: int | None) -> Tensor:
    """Return the clean logits; refuse a network that cannot be judged on these images."""
    with torch.no_grad():
        logits: Tensor = view(x)
    if logits.dim() != 2 or len(logits) != len(x):
        raise EvaluationError(f"the network must give logits ({len(x)}, classes), it gives {tuple(logits.shape)}")
    classes, highest = logits.shape[1], int(y.amax())
    if num_classes not in {None, classes}:
        raise EvaluationError(f"the network has {classes} classes, the data set {num_classes}")
    if highest >= classes:
        raise EvaluationError(f"the network has {classes} classes, but there is a label {highest}")
    if not bool(logits.isfinite().all(dim=1).any()):
        raise EvaluationError("the network gives logits that are not finite for every clean image of the shard")
    return logits
