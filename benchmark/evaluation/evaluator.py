"""The evaluator: network and attack in, outcomes per image out. It sees no method, only weights behind an `nn.Module`.

The board's threat is L∞ on a deterministic network; another norm, or expectation over the randomness of a network
(EOT, Athalye et al. 2018), runs through the same code and differs only in ball, gradient and vote (`arena.py`).
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advbench.benchmark.attacks import autoattack, autoattack_versions
from advbench.benchmark.attacks.autoattack import convergence, engine
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.evaluation.arena import Arena, ThreatModel, entered
from advbench.benchmark.evaluation.masking_probes import examine
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.protocol import Engine, Protocol
from advbench.benchmark.protocol_parts import Iterated
from advbench.benchmark.records.outcomes import merge
from advbench.benchmark.records.schema import STAGES, Bits
from advbench.benchmark.records.shard_result import Cost, EvaluationError, ShardResult

__all__ = ["ATTACKS", "EvaluationError", "ShardResult", "attack_images", "evaluate_shard", "merge"]


@dataclass
class _Attempt:
    """One family of attacks in an arena: what has been found and spent so far."""

    arena: Arena
    seed: int
    peers: Mapping[str, nn.Module]
    result: ShardResult
    started: float
    engine: Engine

    def judge(self, column: str, proposal: Tensor, among: Tensor | None = None) -> Tensor:
        """Judge a proposal and count what was odd about it as evidence."""
        verdict = self.arena.judge(proposal, among)
        self.count(f"{column}:proposals_not_finite", verdict.proposals_not_finite)
        self.count(f"{column}:adversarial_logits_not_finite", verdict.logits_not_finite)
        return verdict.right

    def count(self, key: str, images: int) -> None:
        self.result.evidence[key] = self.result.evidence.get(key, 0) + images

    def lap(self) -> Cost:
        """Return what was spent since the last lap."""
        now = time.perf_counter()
        cost, self.started = Cost(now - self.started, self.arena.ledger.reset()), now
        return cost

    def column(self, name: str, outcome: Tensor, settings: dict[str, Any], cost: Cost | None = None) -> None:
        """Write a column down."""
        self.result.columns[name] = _bits(outcome)
        self.result.settings[name] = self.common() | settings
        self.result.costs[name] = self.lap() if cost is None else cost

    def common(self) -> dict[str, Any]:
        """Return the settings that all attacks share."""
        threat = self.arena.threat
        settings = {
            "norm": threat.norm,
            "eps": str(threat.eps),
            "batch": self.arena.protocol.attacks.shard,
            "precision": "strict fp32",
        }
        return settings | ({"eot": threat.eot, "judged": f"right in most of {threat.eot} draws"} if threat.eot else {})


def _bits(outcome: Tensor) -> Bits:
    bits: Bits = outcome.cpu().numpy().astype(np.bool_)
    return bits


def _clean(attempt: _Attempt) -> None:
    attempt.column("clean", attempt.arena.right, {"attack": "none"})


def _pgd(attempt: _Attempt) -> None:
    """PGD-20 and PGD-100 in one run: the protocol lets them share their step."""
    arena, attacks = attempt.arena, attempt.arena.protocol.attacks
    x_adv, done = arena.start("pgd"), 0
    for name, spec in (("pgd20", attacks.pgd20), ("pgd100", attacks.pgd100)):
        x_adv, done = arena.ascend(x_adv, ce_sum, steps=spec.steps - done, step=float(spec.step)), spec.steps
        settings = _iterated(arena, "PGD", "cross-entropy", spec)
        if name == "pgd100":
            settings["shares"] = f"its first {attacks.pgd20.steps} steps are those of pgd20 and counted there"
        attempt.column(name, attempt.judge(name, x_adv), settings)


def _cw(attempt: _Attempt) -> None:
    """PGD on the margin loss of Carlini and Wagner (2017): f_6 of their Section V with κ → ∞ and its sign turned."""
    arena, spec = attempt.arena, attempt.arena.protocol.attacks.cw
    x_adv = arena.ascend(arena.start("cw"), margin_sum, steps=spec.steps, step=float(spec.step))
    attempt.column("cw", attempt.judge("cw", x_adv), _iterated(arena, "CW", "margin", spec))


def _iterated(arena: Arena, attack: str, loss: str, spec: Iterated) -> dict[str, Any]:
    start = "uniform, one restart, Philox4x64-10 by (protocol, family, image)"
    settings = {"attack": attack, "loss": loss, "steps": spec.steps, "step": str(spec.step), "start": start}
    own = arena.protocol.attacks.engine != "pyautoattack"
    return settings | {"iterate": "last"} | ({"network": arena.attacked.description} if own else {})


def _autoattack(attempt: _Attempt) -> None:
    arena, classes = attempt.arena, attempt.arena.view.num_classes
    require_classes(classes)
    propose, settings = _engine(arena, attempt.seed, attempt.engine)
    alive, total = arena.right.clone(), Cost()
    for attack in autoattack_versions.RAND_STAGES if arena.threat.eot else STAGES:
        among = alive.nonzero().flatten()
        if len(among):
            shard = arena.images[0] // arena.protocol.attacks.shard
            seed = autoattack.seed_of(arena.protocol.digest, attempt.seed, attack, shard)
            with arena.ledger.differentiating("input"):
                proposal, warnings = propose(among, attack, seed)
            alive[among] = attempt.judge("autoattack", proposal, among)
            warned = (f"{attack}: {warning}" for warning in warnings)
            attempt.result = dataclasses.replace(attempt.result, warnings=(*attempt.result.warnings, *warned))
        attempt.result.stages[attack] = _bits(alive)
        attempt.result.settings[attack] = {"attack": attack}
        attempt.result.costs[attack] = attempt.lap()
        total += attempt.result.costs[attack]
    attempt.column("autoattack", alive, settings | _convergence(attempt, alive), total)


def _convergence(attempt: _Attempt, alive: Tensor) -> dict[str, Any]:
    """Try attacks beyond AutoAttack on survivors among every so-many-th test image; the evidence is of its column."""
    arena, flags = attempt.arena, attempt.arena.protocol.flags
    if not flags.convergence_every or arena.threat.eot:
        return {}
    sampled = torch.tensor([image % flags.convergence_every == 0 for image in arena.images], device=alive.device)
    among = (alive & sampled).nonzero().flatten()
    targets = min(flags.convergence_targets, autoattack.targets(arena.view.num_classes))
    effort = convergence.Effort(targets, flags.convergence_restarts, flags.convergence_iterations)
    if len(among):
        view = arena.engine_view()
        still = {}
        for attack in convergence.BEYOND:
            with arena.ledger.differentiating("input"):
                proposal = convergence.propose(
                    view,
                    arena.x[among],
                    arena.y[among],
                    attack,
                    ball=arena.threat.ball,
                    effort=effort,
                    key=f"{arena.protocol.digest}|{attempt.seed}",
                    images=arena.indices(among),
                )
            still[attack] = arena.judge(proposal, among).right
            attempt.count(f"autoattack:convergence_fooled_{attack}", int((~still[attack]).sum()))
        gained = among[~torch.stack(list(still.values())).all(dim=0)]
        attempt.count("autoattack:convergence_sampled", len(among))
        attempt.count("autoattack:convergence_fooled", len(gained))
        attempt.result.evidence["autoattack:convergence_at"] = arena.indices(gained)
    attempt.result.costs["convergence"] = attempt.lap()
    return {"convergence": effort.settings() | {"every": flags.convergence_every}}


Propose = Callable[[Tensor, str, int], tuple[Tensor, list[str]]]
"""(indices of the images, attack, seed) → proposals and warnings."""


def _engine(arena: Arena, seed: int, name: Engine) -> tuple[Propose, dict[str, Any]]:
    """Return what attacks the arena's images, and its settings."""
    eot, norm, classes = arena.threat.eot, arena.threat.norm, arena.view.num_classes
    theirs = partial(_autoattack_proposal, arena)
    if name == "pyautoattack":
        return theirs, autoattack_versions.rand_settings(eot) if eot else autoattack.settings(classes)
    if eot:
        raise EvaluationError("AutoAttack under EOT runs through pyautoattack alone")
    mode, view = name, arena.engine_view()

    def ours(among: Tensor, attack: str, stage_seed: int) -> tuple[Tensor, list[str]]:
        if (attack, norm) == ("square", "l2"):
            return theirs(among, attack, stage_seed)
        request = engine.Request(
            attack,
            norm,
            arena.threat.ball.eps,
            autoattack.targets(classes),
            mode,
            stage_seed,
            key=f"{arena.protocol.digest}|{seed}",
            images=arena.indices(among),
        )
        return engine.propose(view, arena.x[among], arena.y[among], request), []

    return ours, engine.settings(mode, view, classes, norm)


def require_classes(classes: int) -> None:
    """Refuse AutoAttack for too few classes.

    Raises:
        EvaluationError: one line.
    """
    if classes < autoattack.FEWEST_CLASSES:
        raise EvaluationError(f"AutoAttack's targeted DLR loss needs 4 classes or more; the network has {classes}")


def _autoattack_proposal(arena: Arena, among: Tensor, attack: str, seed: int) -> tuple[Tensor, list[str]]:
    """Let the engine attack some images with the version that the threat calls for."""
    view, x, y, ball, threat = arena.view, arena.x[among], arena.y[among], arena.threat.ball, arena.threat
    if threat.eot:
        return autoattack_versions.propose_rand(view, x, y, ball=ball, attack=attack, seed=seed, eot=threat.eot)
    propose = autoattack.propose if threat.norm == "linf" else autoattack_versions.propose_l2
    return propose(view, x, y, eps=ball.eps, attack=attack, seed=seed, num_classes=view.num_classes)


def _examination(attempt: _Attempt) -> None:
    attempt.result.evidence.update(examine(attempt.arena, attempt.peers))
    attempt.result.costs["examination"] = attempt.lap()


ATTACKS: dict[str, Callable[[_Attempt], None]] = {
    "clean": _clean,
    "pgd": _pgd,
    "cw": _cw,
    "autoattack": _autoattack,
    "examination": _examination,
}
"""The families of attacks: units of work of `evaluate_shard`."""


def evaluate_shard(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    first: int,
    family: str,
    protocol: Protocol,
    seed: int,
    threat: ThreatModel | None = None,
    num_classes: int | None = None,
    peers: Mapping[str, nn.Module] | None = None,
    autoattack_by: Engine | None = None,
) -> ShardResult:
    """Attack one shard with one family of attacks, in one batch; the network is left as it was found.

    Args:
        network: takes images (n, C, H, W) in [0,1] and gives logits (n, classes); normalisation is inside it.
        x: float32 test images first … first + n − 1, on the network's device.
        y: labels (n,), int64.
        first: test index of the first image, a multiple of `protocol.attacks.shard`.
        family: one of `ATTACKS`.
        protocol: attacks and their settings.
        seed: the run's seed; AutoAttack's seeds, and the draws of a random network, are derived from it.
        threat: None: the protocol's own, which is the board's.
        num_classes: how many logits the network must give; None accepts any number that covers the labels.
        peers: for the masking probes: networks by name whose PGD-20 examples are tried on this one.
        autoattack_by: the engine that runs AutoAttack; None: the protocol's, under EOT pyautoattack.

    Raises:
        EvaluationError: if images, labels, network or protocol cannot be evaluated; one line, before the attack starts.
    """
    size = protocol.attacks.shard
    if len(x) > size or first < 0 or first % size:
        raise EvaluationError(f"a shard is {size} images from a multiple of {size} on; got {len(x)} from {first} on")
    images = range(first, first + len(x))
    with entered(
        network,
        x,
        y,
        images=images,
        protocol=protocol,
        threat=threat,
        num_classes=num_classes,
        draws=f"{seed}|{_known(family)}|{first}",
    ) as arena:
        default: Engine = "pyautoattack" if arena.threat.eot else protocol.attacks.engine
        return _attempted(arena, family, seed, peers or {}, autoattack_by or default)


def attack_images(
    network: nn.Module, x: Tensor, y: Tensor, *, images: Sequence[int], family: str, protocol: Protocol
) -> dict[str, Bits]:
    """Attack any test images with "clean", "pgd" or "cw", in one batch, from the random starts that are theirs.

    Args:
        network: as for `evaluate_shard`.
        x: float32 test images (n, C, H, W).
        y: labels (n,), int64.
        images: their test indices.
        family: not "autoattack", which draws for a whole shard at once.
        protocol: threat, attacks and their settings.

    Returns:
        The outcomes of each column of the family, bool (n,).

    Raises:
        EvaluationError: if images, labels or network cannot be evaluated; one line.
    """
    with entered(network, x, y, images=images, protocol=protocol, draws=f"0|{_known(family)}|{images[0]}") as arena:
        return _attempted(arena, family, 0, {}, protocol.attacks.engine).columns


def _known(family: str) -> str:
    if family not in ATTACKS:
        raise EvaluationError(f"no family of attacks {family!r}; there are {', '.join(ATTACKS)}")
    return family


def _attempted(
    arena: Arena, family: str, seed: int, peers: Mapping[str, nn.Module], engine_name: Engine
) -> ShardResult:
    predictions = arena.predictions.cpu().numpy().astype(np.int64)
    attempt = _Attempt(
        arena, seed, peers, ShardResult(family, arena.images[0], predictions), arena.entered, engine_name
    )
    ATTACKS[family](attempt)
    return attempt.result
