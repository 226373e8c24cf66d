"""The examination: signs of gradient masking that only the network itself can show.

It attacks nothing that counts. What it finds is evidence for flags.py: counts that add up over shards. Under the
published thresholds it costs at most 72 forwards and 52 input gradients per image, 124F (and 41F for each peer, and 8
single forwards a shard): PGD-100 costs 202F, AutoAttack about 4,900F where half of the images survive.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks import pgd, random_starts
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.attacks.wrapped_network import View, frozen
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import Protocol

PROBABILITY_ROUNDING = 1e-5
"""How far a row of probabilities may be from summing to 1: pyautoattack's figure."""
SINGLES = 8
"""Images of a shard that are also sent alone."""

Predict = Callable[[Tensor], Tensor]
"""Logits (B, C) → predicted classes (B,), −1 where a logit is not finite."""


@dataclass(frozen=True)
class Subject:
    """A shard under examination.

    Attributes:
        view: the network; x: images (n, C, H, W); y: labels (n,).
        right: whether the clean image is classified correctly, bool (n,).
        first: test index of the first image.
        ball: what the adversary may do; the radius of `large_eps` is L∞ whatever it is.
        predict: the evaluator's rule for reading logits.
    """

    view: View
    x: Tensor
    y: Tensor
    right: Tensor
    first: int
    ball: Ball
    protocol: Protocol
    ledger: Ledger
    predict: Predict

    @property
    def indices(self) -> range:
        """Test indices of the images."""
        return range(self.first, self.first + len(self.x))

    def near(self, family: str, draw: int = 0) -> Tensor:
        """Return a random point of the ball around every image."""
        return self.ball.start(self.x, self.protocol.digest, family, self.indices, draw)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits without gradient."""
        with torch.no_grad():
            logits: Tensor = self.view(x)
        return logits

    def shown(self, key: str, which: Tensor) -> dict[str, Any]:
        """Return count and test indices of images, as evidence."""
        return {key: int(which.sum()), f"{key}_at": (which.nonzero().flatten() + self.first).tolist()}


def examine(subject: Subject, peers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Return the evidence of one shard; `peers` are networks to transfer PGD-20 examples from, by name."""
    return {
        "images": len(subject.x),
        "examined": int(subject.right.sum()),
        **_forwards(subject),
        **_gradients(subject),
        **_large_eps(subject),
        **_noise(subject),
        **_transfer(subject, peers),
    }


def unit_rows(logits: Tensor) -> Tensor:
    """Return logits divided by their L2 norm, float64; a row that is not finite becomes NaN.

    In float64 also logits of 1e-40 have a norm: tiny logits must not hide a difference.
    """
    wide = logits.double()
    norms: Tensor = wide.norm(dim=1, keepdim=True)
    return wide / norms.clamp_min(torch.finfo(torch.float64).tiny)


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Return the L2 distance (B,) of rows of unit length, at most 2; 2 where only one of them is finite."""
    distance = (a - b).norm(dim=1)
    both_odd = a.isnan().any(dim=1) & b.isnan().any(dim=1)
    return torch.where(both_odd, 0.0, distance.nan_to_num(nan=2.0))


def _forwards(subject: Subject) -> dict[str, Any]:
    """Repeat the clean forward, then send the same images in other company."""
    flags = subject.protocol.flags
    repeats = [subject.logits(subject.x) for _ in range(flags.forward_repeats)]
    rows = [unit_rows(logits) for logits in repeats]
    apart = torch.stack([difference(a, b) for a, b in combinations(rows, 2)]).amax(dim=0)
    company = torch.stack([difference(rows[0], unit_rows(other)) for other in _companies(subject)]).amax(dim=0)
    first = repeats[0]
    inside = ((first > -PROBABILITY_ROUNDING) & (first < 1 + PROBABILITY_ROUNDING)).all(dim=1)
    return {
        **subject.shown("random_images", apart > flags.forward_difference),
        "max_forward_difference": apart.amax().item(),
        **subject.shown("batch_dependent_images", company > flags.forward_difference),
        "max_batch_difference": company.amax().item(),
        "probability_rows": int((inside & ((first.sum(dim=1) - 1).abs() < PROBABILITY_ROUNDING)).sum()),
    }


def _companies(subject: Subject) -> list[Tensor]:
    """Return logits of the same images: backwards in small batches, beside inverted images, and some of them alone."""
    x, n = subject.x, len(subject.x)
    backwards = torch.cat([subject.logits(part) for part in torch.split(x.flip(0), n // 3 + 1)]).flip(0)
    odd = (torch.arange(n, device=x.device) % 2 == 1)[:, None]
    pixels = odd[:, :, None, None]
    beside = torch.where(
        odd, subject.logits(torch.where(pixels, x, 1 - x)), subject.logits(torch.where(pixels, 1 - x, x))
    )
    alone = torch.cat([*(subject.logits(one) for one in torch.split(x[:SINGLES], 1)), backwards[SINGLES:]])
    return [backwards, beside, alone]


def _gradients(subject: Subject) -> dict[str, Any]:
    """Look at the input gradient of the margin on the clean image and at a random point of the ball."""
    raw = View(subject.view.network, raw=True)
    subject.ledger.watch(raw)
    points = {"clean": subject.x, "near": subject.near("examination")}
    evidence: dict[str, Any] = {}
    for place, point in points.items():
        z = point.detach().requires_grad_()
        with torch.enable_grad(), subject.ledger.differentiating("input"):
            logits = raw(z)
            (gradient,) = torch.autograd.grad(margin_sum(logits, subject.y), z)
        flat = gradient.flatten(1)
        odd = ~(flat.isfinite().all(dim=1) & logits.isfinite().all(dim=1))
        evidence |= subject.shown(f"gradient_not_finite_{place}", odd & subject.right)
        evidence |= subject.shown(f"gradient_zero_{place}", (flat == 0).all(dim=1) & subject.right)
    return evidence


def _large_eps(subject: Subject) -> dict[str, Any]:
    """Attack with a radius at which every image can become grey: what survives was not attacked in earnest."""
    flags, among = subject.protocol.flags, subject.right.nonzero().flatten()
    survives = subject.right.clone()
    if not len(among):
        return subject.shown("large_eps_survivors", survives)
    x, y, eps = subject.x[among], subject.y[among], float(flags.large_eps)
    alive = torch.ones_like(y, dtype=torch.bool)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        alive.logical_and_(subject.predict(logits.detach()) == labels)
        return margin_sum(logits, labels)

    unit = random_starts.uniform(subject.protocol.digest, "examination", subject.indices, subject.x.shape[1:], draw=1)
    start = pgd.start(x, unit.to(x.device)[among], eps)
    with subject.ledger.differentiating("input"):
        (last,) = pgd.iterates(subject.view, x, y, start, eps=eps, step=eps / 10, at=[flags.large_steps], loss=loss)
    alive &= subject.predict(subject.logits(last)) == y
    survives[among] = alive
    return subject.shown("large_eps_survivors", survives)


def _noise(subject: Subject) -> dict[str, Any]:
    """Count images that are right on the clean image and under every draw of uniform noise."""
    right = subject.right.clone()
    for draw in range(subject.protocol.flags.noise_draws):
        right &= subject.predict(subject.logits(subject.near("noise", draw))) == subject.y
    return {"noise_right": int(right.sum())}


def _transfer(subject: Subject, peers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Count for each peer the images that are right on the clean image and on the peer's PGD-20 example."""
    spec, evidence = subject.protocol.attacks.pgd20, {}
    for name, peer in sorted(peers.items()):
        view = View(peer)
        subject.ledger.watch(view)

        def loss(z: Tensor, view: View = view) -> Tensor:
            return ce_sum(view(z), subject.y)

        start, step = subject.near("transfer"), float(spec.step)
        with frozen(peer), subject.ledger.differentiating("input"):
            x_adv = subject.ball.ascend(subject.x, start, loss, step=step, steps=spec.steps)
        right = subject.right & (subject.predict(subject.logits(x_adv)) == subject.y)
        evidence[f"transfer_right:{name}"] = int(right.sum())
    return evidence
