"""The inner maximisation: starts in the ball and projected sign steps that differentiate the input alone."""

from collections.abc import Callable

import torch
from torch import Tensor


def gaussian_start(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return x + 0.001·N(0,1), not clipped: the start of the TRADES lineage."""
    return x + 0.001 * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def input_gradient(objective: Callable[[Tensor], Tensor], x_adv: Tensor) -> Tensor:
    """Return the gradient of a scalar objective at x_adv; gradients of weights are not computed (2F, not 3F)."""
    x_adv = x_adv.detach().requires_grad_()
    with torch.enable_grad():
        value = objective(x_adv)
    (gradient,) = torch.autograd.grad(value, x_adv)
    return gradient


def projected_steps(
    x_adv: Tensor,
    objective: Callable[[Tensor], Tensor],
    move: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    freeze: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Ascend the objective from x_adv by `steps` steps; `move(x_adv, gradient)` takes each and projects it.

    `freeze(x_adv)` → bool (B,) is asked after each gradient, before the step; an image once frozen stays. The loop does
    not end early when all images are frozen: asking would make the host wait for the device at every step.
    """
    held: Tensor | None = None
    for _ in range(steps):
        gradient = input_gradient(objective, x_adv)
        moved = move(x_adv.detach(), gradient)
        if freeze is not None:
            now = freeze(x_adv)
            held = now if held is None else held | now
            moved = torch.where(held.view(-1, *[1] * (x_adv.dim() - 1)), x_adv, moved)
        x_adv = moved.detach()
    return x_adv


def sign_steps(
    x: Tensor,
    x_adv: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    eps: float | Tensor,
    step: float | Tensor,
    steps: int,
    freeze: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Ascend the objective from x_adv by `steps` sign steps, each projected to the ball around x and to [0,1].

    `eps` and `step` are lengths in pixel values, one for all images or (B, 1, 1, 1), one for each. `freeze`: as
    `projected_steps` has it.
    """
    lower, upper = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)

    def move(z: Tensor, gradient: Tensor) -> Tensor:
        return torch.clamp(z + step * gradient.sign(), lower, upper)

    return projected_steps(x_adv, objective, move, steps=steps, freeze=freeze)
