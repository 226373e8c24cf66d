"""Square Attack (Andriushchenko et al., ECCV 2020), L∞: random search with squares, 5,000 queries, margin loss.

The square of a step, its place and the signs of its channels, is the same for every image under attack, as in the
reference implementation; images leave once fooled.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from advbench.benchmark.attacks.autoattack.incremental import Incremental, Window
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
        signs, patterns = torch.unique((2 * draws.squares[:, 2:] - 1).sign(), dim=0, return_inverse=True)
        self.deltas, self.patterns = (2.0 * eps * signs).to(x.device), patterns.tolist()

    def run(self, image: Tensor) -> None:
        """Search from stripes on; `image` are indices of the images in the batch."""
        x, y = self.x[image], self.y[image]
        lower, upper = (x - self.eps).clamp_(min=0), (x + self.eps).clamp_(max=1)
        asked = Incremental(self.view, (x + self.eps * self.stripes[image]).clamp_(0, 1))
        loss, over = self._loss(image, asked.images, y, asked.begin(self.sides[0]))
        over, refused = over | loss.isnan(), self._refused(image, self.sides[0])
        for query, s in enumerate(self.sides):
            if s != self.sides[max(query - 1, 0)]:
                asked.begin(s)
                refused = self._refused(image, s)
            if bool(over.any()):
                active = ~over
                image, y, lower, upper, loss, refused = (t[active] for t in (image, y, lower, upper, loss, refused))
                asked.retain(active)
                over = over[active]
            if len(image) == 0:
                return
            (top, left), pattern = self.corners[query], self.patterns[query]
            # What changes nothing, or was refused since the image last changed, would be refused again.
            known = refused[:, top, left, pattern]
            rows = (~known).nonzero().flatten()
            if len(rows) == 0:
                continue
            known.fill_(value=True)
            window = Window(top, left, s, s)
            before, lowest, highest = (window.of(images)[rows] for images in (asked.images, lower, upper))
            after = (before + self.deltas[pattern].view(-1, 1, 1)).clamp_(lowest, highest)
            changes = (after != before).flatten(1).any(dim=1).nonzero().flatten()
            if len(changes) == 0:
                continue
            after, rows = after[changes], rows[changes]
            logits = asked.ask(window, after, rows)
            new = -margin_each(logits, y[rows])
            among = ((new < loss[rows]) | (new <= 0)).nonzero().flatten()
            if len(among):
                taken = rows[among]
                asked.accept(taken, among)
                refused[taken] = False
                loss[taken] = new[among]
                _, over[taken] = self._loss(image[taken], asked.images[taken], y[taken], logits[among])

    def _refused(self, image: Tensor, s: int) -> Tensor:
        """Return, for each corner and pattern of a square, whether it did not help the image as it is: not yet."""
        height, width = self.x.shape[-2:]
        shape = (len(image), height - s + 1, width - s + 1, len(self.deltas))
        return torch.zeros(shape, dtype=torch.bool, device=image.device)

    def _loss(self, image: Tensor, x_adv: Tensor, y: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return z_y − max_{j≠y} z_j and whether that ends the search, both (R,); report what is misclassified."""
        loss = -margin_each(logits, y)
        low = loss <= 0
        if bool(low.any()):
            wrong = low & (logits.argmax(dim=1) != y)
            self.findings.add(image[wrong], x_adv[wrong], -loss[wrong])
        return loss, loss <= -self.findings.tolerance
