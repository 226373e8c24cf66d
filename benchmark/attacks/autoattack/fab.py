"""Targeted FAB, L∞ and L2: projections onto the linearised decision boundary, 100 iterations from the clean image.

Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020.

An iteration asks the network twice, for the gradient at the iterate and for the class after the step. Where the step
stays on the right side the next iterate is that very point, so one differentiated pass serves both. Rows cross at every
step or at every other one: a row is expected to do what it did two steps ago, and is asked for its class alone if that
was to cross.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from advbench.benchmark.attacks.autoattack.apgd import largest, length, per_image
from advbench.benchmark.attacks.autoattack.loss_vectors import difference
from advbench.benchmark.attacks.autoattack.network_view import NetworkView
from advbench.benchmark.attacks.autoattack.projection import onto_hyperplane
from advbench.benchmark.attacks.autoattack.rows import Findings, Pairs, Rows
from advbench.benchmark.attacks.ball import Norm

ITERATIONS = 100
_OVERSHOOT = 1.05
_BACKWARD = 0.9
_BIAS = 0.1  # the largest share of the step that starts from the clean image
_SHORTEST = 1e-8


@dataclass
class Walk(Rows):
    """Rows of FAB.

    Attributes:
        x: clean images (R, C, H, W).
        at: iterates.
        known: whether value and gradient are those at the iterate, bool (R,).
        value: z_target − z_y, (R,); gradient: its gradient.
        crossed: whether the last step ended on the wrong side, bool (R,).
        crossed_before: whether the step before it did.
    """

    x: Tensor
    at: Tensor
    known: Tensor
    value: Tensor
    gradient: Tensor
    crossed: Tensor
    crossed_before: Tensor


class Fab:
    """Targeted FAB.

    Args:
        view: the network.
        x: images (n, C, H, W); y: labels (n,).
        norm: "linf" or "l2".
        eps: radius within which a point on the wrong side is adversarial.
    """

    evaluations = ITERATIONS

    def __init__(self, view: NetworkView, x: Tensor, y: Tensor, *, norm: Norm, eps: float) -> None:
        self.view, self.x, self.y, self.norm, self.eps = view, x, y, norm, eps
        self.size = largest if norm == "linf" else length

    def begin(self, pairs: Pairs) -> Walk:
        """Place each row on its clean image."""
        x = self.x[pairs.image]
        no = torch.zeros_like(pairs.image, dtype=torch.bool)
        return Walk(
            image=pairs.image,
            y=self.y[pairs.image],
            target=pairs.target,
            age=torch.zeros_like(pairs.image),
            x=x,
            at=x,
            known=no,
            value=torch.zeros(len(x), device=x.device),
            gradient=torch.zeros_like(x),
            crossed=~no,
            crossed_before=~no,
        )

    def advance(self, rows: Walk, findings: Findings) -> Walk:
        """Take one step from every iterate and report the steps that end on the wrong side within eps."""
        unknown = (~rows.known).nonzero().flatten()
        if len(unknown):
            self._differentiate(rows, unknown)
        rows.at = self._step(rows)
        logits = self._look(rows)
        near = self.size(rows.at - rows.x) <= self.eps
        wrong = findings.report(rows, rows.at, logits, near)
        back = per_image(wrong, rows.x)
        rows.at = torch.where(back, rows.x + (rows.at - rows.x) * _BACKWARD, rows.at)
        rows.known = rows.known & ~wrong
        rows.crossed_before, rows.crossed = rows.crossed, wrong
        rows.age = rows.age + 1
        return rows

    def _differentiate(self, rows: Walk, index: Tensor) -> Tensor:
        """Update value and gradient of the rows at `index`; return their logits."""
        part = rows if len(index) == len(rows) else rows.take(index)
        logits, value, gradient = self.view.value_and_gradient(
            part.at, lambda logits: difference(logits, part.y, part.target)
        )
        if part is rows:
            rows.value, rows.gradient = value, gradient
        else:
            rows.value = rows.value.index_copy(0, index, value)
            rows.gradient = rows.gradient.index_copy(0, index, gradient)
        rows.known = rows.known.index_fill(0, index, value=True)
        return logits

    def _look(self, rows: Walk) -> Tensor:
        """Return the logits of every iterate, and differentiate where it is expected to stay on the right side."""
        likely, unlikely = (mask.nonzero().flatten() for mask in (rows.crossed_before, ~rows.crossed_before))
        rows.known = torch.zeros_like(rows.known)
        if not len(likely):
            return self._differentiate(rows, unlikely)
        classes = self.view.logits(rows.at[likely])
        if not len(unlikely):
            return classes
        logits = classes.new_empty((len(rows), classes.shape[1]))
        logits[likely], logits[unlikely] = classes, self._differentiate(rows, unlikely)
        return logits

    def _step(self, rows: Walk) -> Tensor:
        """Project iterate and clean image onto the linearised boundary and mix where they land."""
        w, at, x = (images.flatten(1) for images in (rows.gradient, rows.at, rows.x))
        from_clean = rows.value + torch.linalg.vecdot(w, x - at)
        moves = onto_hyperplane(
            torch.cat([at, x]), torch.cat([w, w]), torch.cat([rows.value, from_clean]), self.norm
        ).view(2, *rows.x.shape)
        at_size, x_size = (self.size(move).clamp_min(_SHORTEST) for move in moves)
        share = per_image((at_size / (at_size + x_size)).clamp(max=_BIAS), rows.x)
        there = (rows.at + _OVERSHOOT * moves[0]) * (1 - share)
        return (there + (rows.x + _OVERSHOOT * moves[1]) * share).clamp_(0, 1)
