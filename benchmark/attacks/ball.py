"""The ball of a threat: its random starts, its projected steps and its projection, L∞ and L2, behind one interface."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advbench.benchmark.attacks import l2, pgd, random_starts
from advbench.benchmark.attacks.sign_ascent import sign_steps

Norm = Literal["linf", "l2"]
_RADII = 2**32
"""Where the draws of radii begin: directions have the numbers below."""


@dataclass(frozen=True)
class Ball:
    """A ball around an image, in which an adversary moves.

    Attributes:
        norm: "linf" or "l2".
        eps: radius, as the nearest double.
        scale: factor of the radius, one for all images or (n, 1, 1, 1), one for each: a method's choice in training.
    """

    norm: Norm
    eps: float
    scale: float | Tensor = 1.0

    @property
    def radius(self) -> float | Tensor:
        """How far an image may move."""
        return self.eps * self.scale

    @property
    def tolerance(self) -> float:
        """How far outside fp32 may leave a pixel (L∞: the spacing at 1) or an image (L2)."""
        return 2.0**-23 if self.norm == "linf" else self.eps * l2.ROUNDING

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return how far each image was moved, float64 (n,)."""
        moved = (x_adv.double() - x.double()).flatten(1)
        return moved.abs().amax(dim=1) if self.norm == "linf" else moved.norm(dim=1)

    def start(self, x: Tensor, digest: str, family: str, images: Sequence[int], draw: int = 0) -> Tensor:
        """Return a point uniform in the ball, clipped to [0,1], for each image (n, C, H, W); see `starts.uniform`."""
        unit = random_starts.uniform(digest, family, images, x.shape[1:], draw=draw).to(x.device)
        if self.norm == "linf":
            return pgd.start(x, unit, self.eps)
        radius = random_starts.uniform(digest, family, images, (1,), draw=_RADII + draw).flatten().to(x.device)
        return l2.start(x, unit, radius, self.eps)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a point uniform in the ball, clipped to [0,1], drawn from the generator."""
        unit = 2 * torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1
        if self.norm == "linf":
            return (x + unit * self.radius).clamp_(0, 1)
        radius = 2 * torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype) - 1
        return l2.start(x, unit, radius, self.radius)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the steepest ascent of length 1 in the norm: the sign (L∞), or the gradient by its norm (L2)."""
        return gradient.sign() if self.norm == "linf" else l2.direction(gradient)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return x_adv clipped to the ball around x and to [0,1]."""
        if self.norm == "linf":
            return torch.clamp(x_adv, x - self.radius, x + self.radius).clamp(0, 1)
        return l2.project(x_adv, x, self.radius)

    def ascend(
        self,
        x: Tensor,
        x_adv: Tensor,
        objective: Callable[[Tensor], Tensor],
        *,
        step: float | Tensor,
        steps: int,
        freeze: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Ascend an objective, summed over images, from x_adv: steps along the sign (L∞) or the gradient (L2)."""
        ascend = sign_steps if self.norm == "linf" else l2.ascend
        return ascend(x, x_adv, objective, eps=self.radius, step=step, steps=steps, freeze=freeze)
