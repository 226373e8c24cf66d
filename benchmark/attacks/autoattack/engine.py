"""The engine: AutoAttack's four attacks in our own implementation, one at a time over images that are still right.

*Reference mode* draws the numbers of pyautoattack in its order, so targets come one after the other. *Exact mode*
draws by image: targets of all images go through one queue, and neither batch size, order nor sharding matters.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from advbench.benchmark.attacks.autoattack import reference
from advbench.benchmark.attacks.autoattack.apgd import Apgd
from advbench.benchmark.attacks.autoattack.draws import Draws, ImageDraws, ReferenceDraws
from advbench.benchmark.attacks.autoattack.fab import Fab
from advbench.benchmark.attacks.autoattack.loss_vectors import ce, targeted_dlr
from advbench.benchmark.attacks.autoattack.network_view import FEWEST_ROWS, NetworkView
from advbench.benchmark.attacks.autoattack.rows import Findings, Pairs, drive
from advbench.benchmark.attacks.autoattack.square import QUERIES, square_linf
from advbench.benchmark.attacks.ball import Norm
from advbench.benchmark.records.schema import STAGES

Mode = Literal["reference", "exact"]
VERSION = 1
_PIXELS = 2**18
_BATCHES = (64, 2048)


@dataclass(frozen=True)
class Request:
    """One attack on some images.

    Attributes:
        attack: one of `STAGES`.
        norm: "linf" or "l2"; eps: radius.
        targets: how many classes targeted attacks try.
        mode: whose random numbers are drawn.
        seed: of reference mode.
        key: of exact mode: what stands for protocol and run.
        images: test index of each image; exact mode draws by it.
        capacity: rows in a batch; None chooses by the size of an image.
        queries: of Square Attack.
    """

    attack: str
    norm: Norm
    eps: float
    targets: int
    mode: Mode
    seed: int
    key: str
    images: Sequence[int]
    capacity: int | None = None
    queries: int = QUERIES


def batch_for(shape: Sequence[int]) -> int:
    """Return how many images of shape (C, H, W) make a batch: few enough for caches, enough to hide Python."""
    least, most = _BATCHES
    return min(max(_PIXELS // torch.Size(shape).numel(), least), most)


def propose(view: NetworkView, x: Tensor, y: Tensor, request: Request) -> Tensor:
    """Return for each image what the attack found, the clean image where it found nothing.

    Args:
        view: the network.
        x: images (n, C, H, W) in [0,1]; those already misclassified are returned as they are.
        y: labels (n,).
        request: the attack.
    """
    if request.attack not in STAGES:
        raise ValueError(f"no attack {request.attack!r} in AutoAttack standard; it has {', '.join(STAGES)}")
    if (request.attack, request.norm) == ("square", "l2"):
        raise ValueError("the engine has no Square Attack in L2; pyautoattack has")
    if request.mode == "exact":
        view = dataclasses.replace(view, fewest=FEWEST_ROWS)
    findings = Findings.none(x, view.tolerance)
    return _Run(view, x, y, request, findings).x_adv()


def settings(mode: Mode, view: NetworkView, num_classes: int, norm: Norm) -> dict[str, Any]:
    """Describe the engine and its parameters for a record."""
    drawn = {} if mode == "reference" else {"seed": "Philox4x64-10 by (protocol, run seed, attack, image, target)"}
    square = "; Square by pyautoattack" if norm == "l2" else ""
    return {
        **reference.settings(num_classes),
        "engine": f"advbench {VERSION}, {mode} mode{square}",
        "network": view.description,
        **drawn,
    }


class _Run:
    """One call of `propose`; attributes are its arguments."""

    def __init__(self, view: NetworkView, x: Tensor, y: Tensor, request: Request, findings: Findings) -> None:
        self.view, self.x, self.y, self.request, self.findings = view, x, y, request, findings
        self.capacity = request.capacity or batch_for(x.shape[1:])
        self.draws: Draws = (
            ReferenceDraws(request.seed)
            if request.mode == "reference"
            else ImageDraws(request.key, request.attack, request.images)
        )

    def x_adv(self) -> Tensor:
        """Run the attack."""
        clean = torch.cat([self.view.logits(part) for part in torch.split(self.x, self.capacity)])
        right = (clean.argmax(dim=1) == self.y).nonzero().flatten()
        ranked = clean.sort(dim=1).indices.flip(1)
        match self.request.attack:
            case "apgd-ce":
                self._climb([Pairs(right, self.y[right], torch.zeros_like(right))])
            case "apgd-t":
                self._climb(self._targets(right, ranked))
            case "fab-t":
                pairs = _concatenated(self._targets(right, ranked))
                fab = Fab(self.view, self.x, self.y, norm=self.request.norm, eps=self.request.eps)
                drive(fab, pairs, self.findings, capacity=self.capacity)
            case _:
                self._square(right)
        return self.findings.x_adv

    def _targets(self, image: Tensor, ranked: Tensor) -> list[Pairs]:
        """Return the pairs of each rank: the classes second, third and so on in the clean logits."""
        ranks = range(1, self.request.targets + 1)
        return [Pairs(image, ranked[image, rank], torch.full_like(image, rank)) for rank in ranks]

    def _climb(self, groups: list[Pairs]) -> None:
        loss = ce if self.request.attack == "apgd-ce" else targeted_dlr
        serial = self.request.mode == "reference"
        for pairs in groups if serial else [_concatenated(groups)]:
            left = pairs.take(~self.findings.fooled[pairs.image]) if serial else pairs
            start = self._at_once(left) if serial else self._noise
            apgd = Apgd(self.view, self.x, self.y, norm=self.request.norm, eps=self.request.eps, loss=loss, start=start)
            drive(apgd, left, self.findings, capacity=self.capacity)

    def _noise(self, pairs: Pairs) -> Tensor:
        return self.draws.noise(pairs.image, pairs.rank, self.x.shape[1:], self.request.norm)

    def _at_once(self, pairs: Pairs) -> Callable[[Pairs], Tensor]:
        """Draw for all pairs now, in their order; return what gives each its own."""
        noise = torch.zeros_like(self.x, device="cpu")
        noise[pairs.image.cpu()] = self._noise(pairs)
        return lambda some: noise[some.image.cpu()]

    def _square(self, image: Tensor) -> None:
        x, y = self.x[image], self.y[image]
        found = Findings.none(x, self.findings.tolerance)
        draws = self.draws.square(image, self.x.shape[1:], self.request.queries)
        square_linf(self.view, x, y, found, eps=self.request.eps, draws=draws, capacity=self.capacity)
        self.findings.x_adv[image], self.findings.excess[image] = found.x_adv, found.excess


def _concatenated(groups: list[Pairs]) -> Pairs:
    return Pairs(
        torch.cat([pairs.image for pairs in groups]),
        torch.cat([pairs.target for pairs in groups]),
        torch.cat([pairs.rank for pairs in groups]),
    )
