"""The arena: a batch of images under attack, and the one judge of what attacks propose; L∞ or L2, with EOT or without.

An attack proposes, the arena disposes: it clips the proposal to the ball and to [0,1], asserts both, and judges by
itself in strict fp32. An image is robust if the network is right on the clean image AND on the proposal.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks import pgd
from advbench.benchmark.attacks.autoattack import network_view
from advbench.benchmark.attacks.autoattack.network_view import NetworkView
from advbench.benchmark.attacks.ball import Ball, Norm
from advbench.benchmark.attacks.wrapped_network import ForwardError, View, frozen, strict_fp32
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.models.torch_state import isolated_rng
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.protocol_parts import NORMS
from advbench.benchmark.records.shard_result import EvaluationError


def predicted(logits: Tensor) -> Tensor:
    """Return the predicted class (B,) of logits (B, C): ties go to the lowest class, −1 where a logit is not finite."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    highest = logits == logits.amax(dim=1, keepdim=True)
    lowest = torch.where(highest, classes, logits.shape[1]).amin(dim=1)
    return torch.where(logits.isfinite().all(dim=1), lowest, -1)


def dispose(proposal: Tensor, x: Tensor, ball: Ball) -> Tensor:
    """Return the proposal as a legal input: clipped to the ball around x and to [0,1]; a pixel not finite is x's own.

    Raises:
        EvaluationError: if shapes differ, or if what comes out is not in the ball, in [0,1] and finite after all.
    """
    if proposal.shape != x.shape:
        raise EvaluationError(f"an attack returned shape {tuple(proposal.shape)} for images {tuple(x.shape)}")
    kept = torch.where(proposal.isfinite(), proposal.detach().to(x.dtype), x)
    # Judged in float64, apart from the clipping, which it would catch if it were wrong.
    x_adv = ball.project(kept, x)
    distance = ball.distance(x_adv, x).amax().item()
    if not (distance <= ball.eps + ball.tolerance and x_adv.amin().item() >= 0 and x_adv.amax().item() <= 1):
        raise EvaluationError(f"an input outside the ball or [0,1] was about to be judged (distance {distance:.9g})")
    return x_adv


@dataclass(frozen=True)
class ThreatModel:
    """A threat model: norm and radius of the adversary, and how a randomised network is attacked.

    Attributes:
        norm: "linf" or "l2".
        eps: radius in units of pixels in [0,1].
        eot: draws over which gradients are averaged and votes are taken; 0: the network is deterministic.
    """

    norm: Norm
    eps: Fraction
    eot: int = 0

    @property
    def text(self) -> str:
        """The threat in words: "L∞, eps 8/255"."""
        return f"{NORMS[self.norm]}, eps {self.eps}"

    @property
    def ball(self) -> Ball:
        """The ball, its radius as the nearest double."""
        return Ball(self.norm, float(self.eps))

    def check(self, shape: Sequence[int]) -> None:
        """Refuse a radius that is not above 0, or beyond what images (C, H, W) in [0,1] can move.

        Raises:
            EvaluationError: one line.
        """
        farthest = 1.0 if self.norm == "linf" else math.sqrt(math.prod(shape))
        if not 0 < self.eps <= farthest:
            raise EvaluationError(
                f"eps must be above 0 and at most {farthest:.4g}, the farthest that images in [0,1] are apart "
                f"in {NORMS[self.norm]}; got {self.eps}"
            )


class Verdict(NamedTuple):
    """Whether each image is right on the clean image and on the proposal, and how many of these were not finite."""

    right: Tensor
    proposals_not_finite: int
    logits_not_finite: int


@dataclass(frozen=True)
class Arena:
    """Images under attack in one batch.

    Attributes:
        view: the network, frozen: what judges, and what an attack sees unless `attacked` says otherwise.
        attacked: what gradient ascent sees: where the protocol has our engine, the engine's view of the network.
        x: images (n, C, H, W); y: labels (n,).
        images: test indices of the images: their random numbers depend on them.
        predictions: predicted classes of the clean images, int64 (n,).
        right: whether the clean image is classified correctly, bool (n,); under EOT by most of the draws.
        ledger: counts the passes.
        entered: `time.perf_counter` before the first pass.
    """

    view: View
    attacked: NetworkView
    x: Tensor
    y: Tensor
    images: Sequence[int]
    protocol: Protocol
    threat: ThreatModel
    predictions: Tensor
    right: Tensor
    ledger: Ledger
    entered: float

    def start(self, family: str, draw: int = 0) -> Tensor:
        """Return a random point of the ball around every image; each family has numbers of its own."""
        return self.threat.ball.start(self.x, self.protocol.digest, family, self.images, draw)

    def ascend(self, x_adv: Tensor, loss: pgd.Loss, *, steps: int, step: float) -> Tensor:
        """Take steps along the gradient of the loss, under EOT along its mean over draws."""

        def objective(z: Tensor) -> Tensor:
            if not self.threat.eot:
                return loss(self.attacked.graph(z), self.y)
            return torch.stack([loss(self.attacked.graph(z), self.y) for _ in range(self.threat.eot)]).mean()

        with self.ledger.differentiating("input"):
            return self.threat.ball.ascend(self.x, x_adv, objective, step=step, steps=steps)

    def engine_view(self) -> NetworkView:
        """Return our engine's view of the network; its passes are counted, whichever engine the protocol has."""
        if self.attacked.network is not self.view:
            return self.attacked
        prepared = network_view.prepare(self.view.network, self.x)
        self.ledger.watch(prepared.outlet)
        return prepared

    def examples_of(self, source: nn.Module) -> Tensor:
        """Return PGD-20 examples of these images made on another network."""
        spec, view = self.protocol.attacks.pgd20, View(source)
        self.ledger.watch(view)
        with frozen(source), self.ledger.differentiating("input"):
            return self.threat.ball.ascend(
                self.x,
                self.start("transfer"),
                lambda z: ce_sum(view(z), self.y),
                step=float(spec.step),
                steps=spec.steps,
            )

    def logits(self, x: Tensor) -> Tensor:
        """Return logits without gradient."""
        with torch.no_grad():
            logits: Tensor = self.view(x)
        return logits

    def indices(self, among: Tensor) -> list[int]:
        """Return the test indices of the arena's images at `among` (n,)."""
        return [self.images[place] for place in among.tolist()]

    def judge(self, proposal: Tensor, among: Tensor | None = None) -> Verdict:
        """Judge a proposal for every image, or for the indices `among`."""
        x, y, right = (
            (self.x, self.y, self.right) if among is None else (t[among] for t in (self.x, self.y, self.right))
        )
        odd = int((~proposal.isfinite()).flatten(1).any(dim=1).sum())
        x_adv = dispose(proposal, x, self.threat.ball)
        answers = [predicted(self.logits(x_adv)) for _ in range(self.threat.eot or 1)]
        return Verdict(right & _most(answers, y), odd, int((torch.stack(answers) < 0).any(dim=0).sum()))


def _most(answers: Sequence[Tensor], y: Tensor) -> Tensor:
    """Whether most of the answers are right."""
    return torch.stack([answer == y for answer in answers]).double().mean(dim=0) > 0.5


@contextmanager
def entered(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    images: Sequence[int],
    protocol: Protocol,
    threat: ThreatModel | None = None,
    num_classes: int | None = None,
    draws: str = "",
) -> Iterator[Arena]:
    """Hold a network frozen, in eval mode and in strict fp32, and ask it for the clean images first.

    Args:
        network: takes images (n, C, H, W) in [0,1] and gives logits (n, classes); normalisation is inside it.
        x: float32 images, on the network's device.
        y: labels (n,), int64.
        images: test indices of the images.
        protocol: attacks and their settings.
        threat: None: the protocol's own.
        num_classes: how many logits the network must give; None accepts any number that covers the labels.
        draws: what the draws of a random network depend on beside the protocol.

    Raises:
        EvaluationError: if images, labels or network cannot be evaluated; one line.
    """
    threat = threat or ThreatModel(protocol.threat.norm, protocol.threat.eps)
    _check_batch(x, y)
    threat.check(x.shape[1:])
    seed = int.from_bytes(hashlib.sha256(f"{protocol.digest}|{draws}".encode()).digest()[:4], "big")
    before = x.clone()
    ledger, view = Ledger(), View(network)
    ledger.watch(view)
    try:
        with (
            isolated_rng(x.device),
            frozen(network),
            strict_fp32(x.device),
        ):
            own = protocol.attacks.engine != "pyautoattack" and not threat.eot
            attacked = network_view.prepare(network, x) if own else network_view.plain(view)
            if own:
                ledger.watch(attacked.outlet)
            torch.manual_seed(seed)
            started = time.perf_counter()
            answer = predicted(_clean_logits(view, x, y, num_classes))
            right = answer == y
            if threat.eot:
                with torch.no_grad():
                    right = _most([predicted(view(x)) for _ in range(threat.eot)], y)
            yield Arena(view, attacked, x, y, images, protocol, threat, answer, right, ledger, started)
        if not torch.equal(x, before):
            raise EvaluationError("the network, or an attack, changed the images it was judged on: nothing counts")
    except ForwardError as error:
        raise EvaluationError(str(error)) from error.__cause__
    except torch.OutOfMemoryError:
        raise EvaluationError(
            f"a shard of {len(x)} images does not fit into the memory of {x.device}; "
            "a protocol of your own can set a smaller attacks.shard"
        ) from None


def _check_batch(x: Tensor, y: Tensor) -> None:
    """Refuse what no network could be evaluated on."""
    if x.dim() != 4 or x.dtype != torch.float32 or len(x) == 0:
        raise EvaluationError(f"images must be float32 (n, C, H, W), n > 0; got {x.dtype} {tuple(x.shape)}")
    if y.shape != x.shape[:1] or y.dtype != torch.int64 or int(y.amin()) < 0:
        raise EvaluationError(f"labels must be int64 ({len(x)},), 0 or above; got {y.dtype} {tuple(y.shape)}")
    low, high = x.amin().item(), x.amax().item()
    if not (low >= 0 and high <= 1 and bool(x.isfinite().all())):
        raise EvaluationError(
            f"images must be finite and in [0,1], these span [{low:.4g}, {high:.4g}]; normalise inside the network"
        )


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
