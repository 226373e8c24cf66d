"""Losses of the field, each with its reduction in its name; logits in, gradients through every argument.

Logits in half precision are raised to fp32 first: a KL at temperature 30 in bf16 is off by a hundredfold, and which
operations autocast raises by itself differs between devices.

`_sum` sums over images, `_mean` is the mean over images ("batchmean"), `_elements` the mean over images and classes,
1/C of the former. Directions are written as KL(reference || other) = Σ_c p_ref (log p_ref − log p_other).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _raised(logits: Tensor) -> Tensor:
    """Return logits in fp32 where they are in half precision."""
    return logits.float() if logits.dtype in {torch.bfloat16, torch.float16} else logits


def ce_sum(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits (B, C) with labels (B,) or probabilities (B, C), summed over images."""
    return F.cross_entropy(_raised(logits), y, reduction="sum")


def ce_mean(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits (B, C) with labels (B,) or probabilities (B, C), mean over images."""
    return F.cross_entropy(_raised(logits), y)


def ce_each(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (B,) of each image, unreduced."""
    return F.cross_entropy(_raised(logits), y, reduction="none")


def kl_each(reference: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(reference/T) || softmax(other/T)) of each image, (B,), without the factor T²."""
    log_p = F.log_softmax(_raised(reference) / temperature, dim=1)
    log_q = F.log_softmax(_raised(other) / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)


def kl_sum(reference: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(reference || other) summed over images."""
    return kl_each(reference, other, temperature).sum()


def kl_mean(reference: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(reference || other), mean over images ("batchmean", as TRADES has it)."""
    return kl_each(reference, other, temperature).mean()


def kl_elements(reference: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(reference || other), mean over images AND classes: kl_mean / C (D2R, RSLAD, ARD, AdaAD)."""
    return kl_mean(reference, other, temperature) / reference.shape[1]


def mse_elements(a: Tensor, b: Tensor) -> Tensor:
    """Squared difference, mean over every element."""
    return F.mse_loss(_raised(a), _raised(b))


def margin_each(logits: Tensor, y: Tensor) -> Tensor:
    """Margin max_{j≠y} z_j − z_y of each image, (B,): above 0 means misclassified (the CW loss)."""
    own = logits.gather(1, y[:, None])
    masked = logits.scatter(1, y[:, None], float("-inf"))
    return masked.amax(dim=1) - own.squeeze(1)


def softmax(logits: Tensor) -> Tensor:
    """Probabilities (B, C) of logits (B, C)."""
    return torch.softmax(_raised(logits), dim=1)
