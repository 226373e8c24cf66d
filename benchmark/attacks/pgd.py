"""PGD (Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018): sign steps, L∞.

As the protocol has it: cross-entropy, one uniform start, every image takes every step, the last iterate counts.
"""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from advbench.benchmark.attacks.sign_ascent import sign_steps
from advbench.benchmark.losses import ce_sum

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, C), labels (B,)) → the sum over images of what the attack ascends."""


def start(x: Tensor, unit: Tensor, eps: float) -> Tensor:
    """Return x + eps·unit, clipped to [0,1]; `unit` in [-1, 1] has the shape of x."""
    return (x + eps * unit.to(x)).clamp(0, 1)


def iterates(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    x_start: Tensor,
    *,
    eps: float,
    step: float,
    at: Sequence[int],
    loss: Loss = ce_sum,
) -> Iterator[Tensor]:
    """Ascend the loss from `x_start`; yield the iterates after the numbers of steps in `at` (increasing)."""
    x_adv, done = x_start, 0
    for steps in at:
        x_adv = sign_steps(x, x_adv, lambda z: loss(network(z), y), eps=eps, step=step, steps=steps - done)
        done = steps
        yield x_adv
