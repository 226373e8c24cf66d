"""Auto-PGD (Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020), L∞ and L2.

Momentum 0.75, step 2·eps, halved at fixed checkpoints where the loss stalls or rises too rarely, then from the best
point so far. A row is evaluated at its start and after each of its steps, 100 in AutoAttack.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advbench.benchmark.attacks.autoattack.loss_vectors import Loss
from advbench.benchmark.attacks.autoattack.network_view import NetworkView
from advbench.benchmark.attacks.autoattack.rows import Findings, Pairs, Rows
from advbench.benchmark.attacks.ball import Norm

ITERATIONS = 100
_MOMENTUM = 0.75
_RISES = 0.75  # fewer rises than this share of a period halve the step
_TINY = 1e-12


def checkpoints(iterations: int) -> dict[int, int]:
    """Return age → steps since the checkpoint before: periods of 22, 19, 16 … 6 % of the iterations."""
    period, least, decrement = (max(int(share * iterations), 1) for share in (0.22, 0.06, 0.03))
    found, age = {}, period
    while age <= iterations:
        found[age] = period
        period = max(period - decrement, least)
        age += period
    return found


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (R,) to (R, 1, …) so that it multiplies images."""
    return values.view(-1, *[1] * (like.dim() - 1))


def largest(images: Tensor) -> Tensor:
    """Return the L∞ norm of each image, (R,)."""
    return images.abs().flatten(1).amax(dim=1)


def length(images: Tensor) -> Tensor:
    """Return the L2 norm of each image, (R,)."""
    return (images**2).flatten(1).sum(dim=1).sqrt()


@dataclass
class Climb(Rows):
    """Rows of APGD; attributes beyond those of `Rows` are its variables, images or (R,)."""

    x: Tensor
    lower: Tensor
    upper: Tensor
    x_adv: Tensor
    previous: Tensor
    best: Tensor
    best_gradient: Tensor
    step: Tensor
    loss_best: Tensor
    loss_last: Tensor
    loss_at_check: Tensor
    rises: Tensor
    halved: Tensor


class Apgd:
    """APGD on one loss.

    Args:
        view: the network.
        x: images (n, C, H, W); y: labels (n,).
        norm: "linf" or "l2"; eps: radius.
        loss: what is ascended.
        start: noise (R, C, H, W) of pairs, uniform in [-1, 1) for L∞, normal for L2; it is scaled to the sphere.
        iterations: how many steps a row takes.
    """

    def __init__(
        self,
        view: NetworkView,
        x: Tensor,
        y: Tensor,
        *,
        norm: Norm,
        eps: float,
        loss: Loss,
        start: Callable[[Pairs], Tensor],
        iterations: int = ITERATIONS,
    ) -> None:
        self.evaluations = iterations + 1
        self.view, self.x, self.y, self.eps, self.loss, self.start = view, x, y, eps, loss, start
        self.size, self.move = (largest, self._linf) if norm == "linf" else (length, self._l2)
        ages = torch.zeros(self.evaluations, device=x.device)
        for age, period in checkpoints(iterations).items():
            ages[age] = period
        self.periods = ages

    def begin(self, pairs: Pairs) -> Climb:
        """Place each row on the sphere around its image, clipped to [0,1]."""
        x = self.x[pairs.image]
        noise = self.start(pairs).to(x)
        x_adv = (x + self.eps * self._normalized(noise)).clamp(0, 1)
        zeros = torch.zeros(len(x), device=x.device)
        return Climb(
            image=pairs.image,
            y=self.y[pairs.image],
            target=pairs.target,
            age=torch.zeros_like(pairs.image),
            x=x,
            lower=(x - self.eps).clamp_(min=0),
            upper=(x + self.eps).clamp_(max=1),
            x_adv=x_adv,
            previous=x_adv,
            best=x_adv,
            best_gradient=torch.zeros_like(x),
            step=torch.full_like(zeros, 2 * self.eps),
            loss_best=torch.full_like(zeros, -torch.inf),
            loss_last=zeros,
            loss_at_check=zeros,
            rises=zeros,
            halved=torch.ones_like(zeros, dtype=torch.bool),
        )

    def advance(self, rows: Climb, findings: Findings) -> Climb:
        """Evaluate the rows, shrink the steps that are due, and take a step."""
        logits, loss, gradient = self.view.value_and_gradient(
            rows.x_adv, lambda logits: self.loss(logits, rows.y, rows.target)
        )
        findings.report(rows, rows.x_adv, logits)
        gradient = self._keep_book(rows, loss, gradient)
        moved = self.move(rows, gradient)
        rows.previous, rows.x_adv = rows.x_adv, moved
        rows.age = rows.age + 1
        return rows

    def _keep_book(self, rows: Climb, loss: Tensor, gradient: Tensor) -> Tensor:
        """Update best points, and at checkpoints steps; return the gradient from which the next step is taken."""
        first = rows.age == 0
        improved = first | (loss > rows.loss_best)
        wide = per_image(improved, gradient)
        rows.best = torch.where(wide, rows.x_adv, rows.best)
        rows.best_gradient = torch.where(wide, gradient, rows.best_gradient)
        rows.loss_best = torch.where(improved, loss, rows.loss_best)
        # The first step's loss is compared with 0, not with the start's, as the reference implementation has it.
        rows.rises = rows.rises + (~first & (loss > rows.loss_last))
        rows.loss_last = torch.where(first, rows.loss_last, loss)
        rows.loss_at_check = torch.where(first, loss, rows.loss_at_check)
        period = self.periods[rows.age]
        due = period > 0
        if not bool(due.any()):
            return gradient
        stalled = ~rows.halved & (rows.loss_at_check >= rows.loss_best)
        halve = due & ((rows.rises <= period * _RISES) | stalled)
        rows.step = torch.where(halve, rows.step / 2, rows.step)
        rows.halved = torch.where(due, halve, rows.halved)
        rows.loss_at_check = torch.where(due, rows.loss_best, rows.loss_at_check)
        rows.rises = torch.where(due, 0, rows.rises)
        wide = per_image(halve, gradient)
        rows.x_adv = torch.where(wide, rows.best, rows.x_adv)
        return torch.where(wide, rows.best_gradient, gradient)

    def _momentum(self, rows: Climb) -> Tensor:
        """Return the weight of the new step: 1 for a row's first step."""
        return per_image(torch.where(rows.age == 0, 1.0, _MOMENTUM), rows.x)

    def _linf(self, rows: Climb, gradient: Tensor) -> Tensor:
        lower, upper = rows.lower, rows.upper
        x_adv, share = rows.x_adv, self._momentum(rows)
        stepped = torch.clamp(x_adv + per_image(rows.step, x_adv) * gradient.sign(), lower, upper)
        return torch.clamp(x_adv + (stepped - x_adv) * share + (x_adv - rows.previous) * (1 - share), lower, upper)

    def _l2(self, rows: Climb, gradient: Tensor) -> Tensor:
        x_adv, share = rows.x_adv, self._momentum(rows)
        stepped = self._in_ball(x_adv + per_image(rows.step, x_adv) * self._normalized(gradient), rows.x)
        return self._in_ball(x_adv + (stepped - x_adv) * share + (x_adv - rows.previous) * (1 - share), rows.x)

    def _in_ball(self, proposal: Tensor, x: Tensor) -> Tensor:
        delta = proposal - x
        return (x + self._normalized(delta) * per_image(length(delta).clamp(max=self.eps), x)).clamp(0, 1)

    def _normalized(self, images: Tensor) -> Tensor:
        return images / (per_image(self.size(images), images) + _TINY)
