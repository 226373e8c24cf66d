"""Losses of AutoAttack: logits (B, C), labels (B,) and target classes (B,) in, one value an image out, to be ascended.

DLR is the difference of logits ratio of Croce and Hein (ICML 2020), here in its targeted form.
"""

from collections.abc import Callable

from torch import Tensor

from advbench.benchmark.losses import ce_each

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (B, C), labels (B,), targets (B,)) → values (B,)."""


def ce(logits: Tensor, y: Tensor, _target: Tensor) -> Tensor:
    """Cross-entropy."""
    return ce_each(logits, y)


def difference(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """z_target − z_y."""
    return logits.gather(1, target[:, None]).squeeze(1) - logits.gather(1, y[:, None]).squeeze(1)


def probability_margin(logits: Tensor, y: Tensor, _target: Tensor) -> Tensor:
    """max_{j≠y} p_j − p_y."""
    shares = logits.softmax(dim=1)
    own = shares.gather(1, y[:, None])
    return (shares.scatter(1, y[:, None], 0.0).amax(dim=1, keepdim=True) - own).squeeze(1)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(z_target − z_y) / (z_(1) − (z_(3) + z_(4))/2), with z_(k) the k-th largest logit."""
    top = logits.topk(4, dim=1).values
    return difference(logits, y, target) / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12)
