"""Masking probes: signs of gradient masking that only the network itself can show.

They attack nothing that counts. Their results are evidence for records/flags.py: counts that add up over shards. Under
the published thresholds they cost at most 72 forwards and 52 input gradients per image, 124F (and 41F for each peer,
and 8 single forwards a shard): PGD-100 costs 202F, AutoAttack about 4,900F where half of the images survive.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.attacks.wrapped_network import View
from advbench.benchmark.evaluation.arena import Arena, predicted

PROBABILITY_ROUNDING = 1e-5
"""How far a row of probabilities may be from summing to 1: pyautoattack's figure."""
SINGLES = 8
"""Images of a shard that are also sent alone."""


def examine(arena: Arena, peers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Return the evidence of one shard; `peers` are networks to transfer PGD-20 examples from, by name."""
    return {
        "images": len(arena.x),
        "examined": int(arena.right.sum()),
        **_forwards(arena),
        **_gradients(arena),
        **_large_eps(arena),
        **_noise(arena),
        **_transfer(arena, peers),
    }


def _shown(arena: Arena, key: str, which: Tensor) -> dict[str, Any]:
    """Return count and test indices of images, as evidence."""
    return {key: int(which.sum()), f"{key}_at": arena.indices(which.nonzero().flatten())}


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


def _forwards(arena: Arena) -> dict[str, Any]:
    """Repeat the clean forward, then send the same images in other company."""
    flags = arena.protocol.flags
    repeats = [arena.logits(arena.x) for _ in range(flags.forward_repeats)]
    rows = [unit_rows(logits) for logits in repeats]
    apart = torch.stack([difference(a, b) for a, b in combinations(rows, 2)]).amax(dim=0)
    company = torch.stack([difference(rows[0], unit_rows(other)) for other in _companies(arena)]).amax(dim=0)
    first = repeats[0]
    inside = ((first > -PROBABILITY_ROUNDING) & (first < 1 + PROBABILITY_ROUNDING)).all(dim=1)
    return {
        **_shown(arena, "random_images", apart > flags.forward_difference),
        "max_forward_difference": apart.amax().item(),
        **_shown(arena, "batch_dependent_images", company > flags.forward_difference),
        "max_batch_difference": company.amax().item(),
        "probability_rows": int((inside & ((first.sum(dim=1) - 1).abs() < PROBABILITY_ROUNDING)).sum()),
    }


def _companies(arena: Arena) -> list[Tensor]:
    """Return logits of the same images: backwards in small batches, beside inverted images, and some of them alone."""
    x, n = arena.x, len(arena.x)
    backwards = torch.cat([arena.logits(part) for part in torch.split(x.flip(0), n // 3 + 1)]).flip(0)
    odd = (torch.arange(n, device=x.device) % 2 == 1)[:, None]
    pixels = odd[:, :, None, None]
    beside = torch.where(odd, arena.logits(torch.where(pixels, x, 1 - x)), arena.logits(torch.where(pixels, 1 - x, x)))
    alone = torch.cat([*(arena.logits(image) for image in torch.split(x[:SINGLES], 1)), backwards[SINGLES:]])
    return [backwards, beside, alone]


def _gradients(arena: Arena) -> dict[str, Any]:
    """Look at the input gradient of the margin on the clean image and at a random point of the ball."""
    raw = View(arena.view.network, raw=True)
    arena.ledger.watch(raw)
    points = {"clean": arena.x, "near": arena.start("examination")}
    evidence: dict[str, Any] = {}
    for place, point in points.items():
        z = point.detach().requires_grad_()
        with torch.enable_grad(), arena.ledger.differentiating("input"):
            logits = raw(z)
            (gradient,) = torch.autograd.grad(margin_sum(logits, arena.y), z)
        flat = gradient.flatten(1)
        odd = ~(flat.isfinite().all(dim=1) & logits.isfinite().all(dim=1))
        evidence |= _shown(arena, f"gradient_not_finite_{place}", odd & arena.right)
        evidence |= _shown(arena, f"gradient_zero_{place}", (flat == 0).all(dim=1) & arena.right)
    return evidence


def _large_eps(arena: Arena) -> dict[str, Any]:
    """Attack with a radius at which every image can become grey: what survives was not attacked in earnest."""
    flags, among = arena.protocol.flags, arena.right.nonzero().flatten()
    survives = arena.right.clone()
    if not len(among):
        return _shown(arena, "large_eps_survivors", survives)
    x, y, eps = arena.x[among], arena.y[among], float(flags.large_eps)
    alive = torch.ones_like(y, dtype=torch.bool)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        alive.logical_and_(predicted(logits.detach()) == labels)
        return margin_sum(logits, labels)

    ball, images = Ball("linf", eps), arena.indices(among)
    start = ball.start(x, arena.protocol.digest, "examination", images, draw=1)
    with arena.ledger.differentiating("input"):
        last = ball.ascend(x, start, lambda z: loss(arena.view(z), y), step=eps / 10, steps=flags.large_steps)
    alive &= predicted(arena.logits(last)) == y
    survives[among] = alive
    return _shown(arena, "large_eps_survivors", survives)


def _noise(arena: Arena) -> dict[str, Any]:
    """Count images that are right on the clean image and under every draw of uniform noise."""
    right = arena.right.clone()
    for draw in range(arena.protocol.flags.noise_draws):
        right &= predicted(arena.logits(arena.start("noise", draw))) == arena.y
    return {"noise_right": int(right.sum())}


def _transfer(arena: Arena, peers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Count for each peer the images that are right on the clean image and on the peer's PGD-20 example."""
    return {
        f"transfer_right:{name}": int(arena.judge(arena.examples_of(peer)).right.sum())
        for name, peer in sorted(peers.items())
    }
