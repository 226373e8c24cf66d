"""PGD (Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018): sign steps, L∞.

As the protocol has it: cross-entropy, one uniform start, every image takes every step, the last iterate counts. The
steps are those of the ball (`ball.py`).
"""

from collections.abc import Callable

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, C), labels (B,)) → the sum over images of what the attack ascends."""


def start(x: Tensor, unit: Tensor, eps: float) -> Tensor:
    """Return x + eps·unit, clipped to [0,1]; `unit` in [-1, 1] has the shape of x."""
    return (x + eps * unit.to(x)).clamp(0, 1)
