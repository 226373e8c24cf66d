"""Augmentation as tensor operations, every random draw given: zero-padded crop with flip, and random resized crop."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def crop_flip(images: Tensor, index: Tensor, shift: Tensor, flip: Tensor, pad: int) -> Tensor:
    """Take images[index], pad them with zeros, crop them back to size and mirror some, in one gather.

    Args:
        images: (N, H, W, C), any type.
        index: (B,) which images.
        shift: (2, B) top and left of the crop in the padded image, 0 … 2·pad.
        flip: (B,) bool, which crops to mirror.
        pad: pixels of zeros on each side.

    Returns:
        (B, H, W, C) of the type of `images`.
    """
    height, width = images.shape[1:3]
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device).expand(len(index), width)
    rows = y + (shift[0] - pad)[:, None]
    columns = torch.where(flip[:, None], width - 1 - x, x) + (shift[1] - pad)[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    crops = images[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    return crops * inside[..., None]


def resized_crop_box(width: int, height: int, draws: Sequence[float]) -> tuple[int, int, int, int]:
    """Choose the crop of Inception's augmentation: 8 to 100 % of the area, aspect ratio 3/4 to 4/3 (log-uniform).

    Args:
        width: of the image.
        height: of the image.
        draws: 40 uniform draws in [0, 1), four for each of ten tries: area, aspect, left, top.

    Returns:
        Left, top, right, bottom; after ten tries that do not fit, the largest central crop of an allowed aspect.
    """
    for t in range(0, len(draws), 4):
        area = width * height * (0.08 + 0.92 * draws[t])
        aspect = math.exp(math.log(4 / 3) * (2 * draws[t + 1] - 1))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left = int(draws[t + 2] * (width - wide + 1))
            top = int(draws[t + 3] * (height - high + 1))
            return left, top, left + wide, top + high
    wide = min(width, round(height * 4 / 3))
    high = min(height, round(width * 4 / 3))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high
