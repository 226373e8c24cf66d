"""Square Attack (Andriushchenko et al., ECCV 2020), L∞: random search with squares, 5,000 queries, margin loss.

The square of a step, its place and the signs of its channels, is the same for every image under attack, as in the
reference implementation; images leave once fooled.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from advbench.benchmark.attacks.autoattack.network_view import NetworkView
from advbench.benchmark.attacks.autoattack.rows import Findings
from advbench.benchmark.losses import margin_each

QUERIES = 5000
_SHARE = 0.8
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of the image that a square covers is halved."""


def side(query: int, height: int, width: int) -> int:
    """Return the side of the square of a query, in pixels."""
    share = _SHARE / 2 ** sum(query > bound for bound in _HALVINGS)
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


@dataclass(frozen=True)
class SquareDraws:
    """The random numbers of one run.

    Attributes:
        stripes: signs of the vertical stripes from which each image starts, ±1, (n, C, 1, W).
        squares: for each query a row, a column and C signs, U[0, 1), (queries, 2 + C).
    """

    stripes: Tensor
    squares: Tensor


def square_linf(
    view: NetworkView, x: Tensor, y: Tensor, findings: Findings, *, eps: float, draws: SquareDraws, capacity: int
) -> None:
    """Attack images x (n, C, H, W) with labels y (n,), `capacity` at a time.

    Args:
        view: the network.
        x: images.
        y: labels.
        findings: where what is found goes.
        eps: radius.
        draws: random numbers.
        capacity: images in one batch.
    """
    for part in torch.split(torch.arange(len(x), device=x.device), capacity):
        _Search(view, x, y, findings, eps=eps, draws=draws).run(part)


class _Search:
    """The search over one batch; attributes are those of `square_linf`."""

    def __init__(
        self, view: NetworkView, x: Tensor, y: Tensor, findings: Findings, *, eps: float, draws: SquareDraws
    ) -> None:
        self.view, self.x, self.y, self.findings, self.eps = view, x, y, findings, eps
        self.stripes = draws.stripes.to(x.device)
        height, width = x.shape[-2:]
        self.sides = [side(query, height, width) for query in range(len(draws.squares))]
        room = torch.tensor([[height - s, width - s] for s in self.sides])
        self.corners = (room * draws.squares[:, :2]).long().tolist()
        self.deltas = (2.0 * eps * (2 * draws.squares[:, 2:] - 1).sign()).to(x.device)

    def run(self, image: Tensor) -> None:
        """Search from stripes on; `image` are indices of the images in the batch."""
        x, y = self.x[image], self.y[image]
        lower, upper = (x - self.eps).clamp_(min=0), (x + self.eps).clamp_(max=1)
        best = (x + self.eps * self.stripes[image]).clamp_(0, 1)
        loss, over = self._loss(image, best, y)
        over = over | loss.isnan()
        for query, s in enumerate(self.sides):
            if bool(over.any()):
                active = ~over
                image, y, lower, upper, best, loss = (t[active] for t in (image, y, lower, upper, best, loss))
            if len(image) == 0:
                return
            top, left = self.corners[query]
            window = (slice(None), slice(None), slice(top, top + s), slice(left, left + s))
            before = best[window].clone()
            after = (before + self.deltas[query].view(-1, 1, 1)).clamp_(lower[window], upper[window])
            best[window] = after
            new, over = self._loss(image, best, y)
            better = (new < loss) | (new <= 0)
            loss = torch.where(better, new, loss)
            best[window] = torch.where(better.view(-1, 1, 1, 1), after, before)

    def _loss(self, image: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return z_y − max_{j≠y} z_j and whether that ends the search, both (R,); report what is misclassified."""
        logits = self.view.logits(x_adv)
        loss = -margin_each(logits, y)
        low = loss <= 0
        if bool(low.any()):
            wrong = low & (logits.argmax(dim=1) != y)
            self.findings.add(image[wrong], x_adv[wrong], -loss[wrong])
        return loss, loss <= -self.findings.tolerance
