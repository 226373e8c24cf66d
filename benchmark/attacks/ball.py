"""The ball of a threat: its random starts and its projected steps, L∞ and L2, behind one interface.

The board's attacks are L∞ and call their own modules; what must work in either norm, masking probes and attacks off
the board, asks the ball.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
    """

    norm: Norm
    eps: float

    def start(self, x: Tensor, digest: str, family: str, images: Sequence[int], draw: int = 0) -> Tensor:
        """Return a point uniform in the ball, clipped to [0,1], for each image (n, C, H, W); see `starts.uniform`."""
        unit = random_starts.uniform(digest, family, images, x.shape[1:], draw=draw).to(x.device)
        if self.norm == "linf":
            return pgd.start(x, unit, self.eps)
        radius = random_starts.uniform(digest, family, images, (1,), draw=_RADII + draw).flatten().to(x.device)
        return l2.start(x, unit, radius, self.eps)

    def ascend(
        self, x: Tensor, x_adv: Tensor, objective: Callable[[Tensor], Tensor], *, step: float, steps: int
    ) -> Tensor:
        """Ascend an objective, summed over images, from x_adv: steps along the sign (L∞) or the gradient (L2)."""
        ascend = sign_steps if self.norm == "linf" else l2.ascend
        return ascend(x, x_adv, objective, eps=self.eps, step=step, steps=steps)
