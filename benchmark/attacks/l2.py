"""The L2 ball: starts, projected gradient steps and clipping.

PGD of Madry et al. (ICLR 2018) with the steepest ascent of the L2 norm: a step along the gradient divided by its norm.
Lengths are in pixel values, one for all images or (n, 1, 1, 1), one for each.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advbench.benchmark.attacks.sign_ascent import projected_steps

ROUNDING = 1e-6
"""fp32 rounding of a norm, relative: what may be found outside of the ball."""
_TINY = 1e-30  # a gradient of zero stays zero


def _norms(difference: Tensor) -> Tensor:
    """Return the L2 norm of each image, float64, (n, 1, 1, 1)."""
    norms: Tensor = difference.double().flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return norms


def direction(gradient: Tensor) -> Tensor:
    """Return the gradient of each image divided by its norm."""
    return gradient / _norms(gradient).clamp_min(_TINY).to(gradient.dtype)


def project(proposal: Tensor, x: Tensor, eps: float | Tensor) -> Tensor:
    """Return the proposal in the ball around x and in [0,1]; clipping, which comes last, leads toward x."""
    difference = proposal - x
    factor = (eps / _norms(difference).clamp_min(_TINY)).clamp(max=1).to(x.dtype)
    # A hair inside: rounding x + d must not leave the ball.
    inside = torch.where(factor < 1, factor * (1 - 1e-7), factor)
    return (x + difference * inside).clamp(0, 1)


def start(x: Tensor, unit: Tensor, radius: Tensor, eps: float | Tensor) -> Tensor:
    """Return a point uniform in the ball, clipped to [0,1].

    Args:
        x: images (n, C, H, W).
        unit: U[-1, 1) of the same shape: it becomes Gaussian, and its direction uniform on the sphere.
        radius: U[-1, 1) for each image, (n,).
        eps: radius of the ball.
    """
    share = (unit.double() + 1) / 2 + 2.0**-25  # the middle of each of the 2^24 cells: neither 0 nor 1
    dimensions = math.prod(x.shape[1:])
    length = eps * ((radius.double() + 1) / 2).pow(1 / dimensions).view(-1, 1, 1, 1)
    return project(x + (direction(torch.special.ndtri(share)) * length).to(x), x, eps)


def ascend(
    x: Tensor,
    x_adv: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    eps: float | Tensor,
    step: float | Tensor,
    steps: int,
    freeze: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Ascend an objective, summed over images, by `steps` steps of length `step` from x_adv, each projected.

    `freeze`: as `projected_steps` has it.
    """

    def move(z: Tensor, gradient: Tensor) -> Tensor:
        return project(z + step * direction(gradient), x, eps)

    return projected_steps(x_adv, objective, move, steps=steps, freeze=freeze)
