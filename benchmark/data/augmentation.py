"""Augmentation, every random draw given: zero-padded crop with flip, AutoAugment, CutMix, random resized crop."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advbench.benchmark import torchvision_import


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


def autoaugment(images: Tensor, seed: int) -> Tensor:
    """Apply torchvision's AutoAugment with the policies found on CIFAR-10 (Cubuk et al., CVPR 2019) to each image.

    Args:
        images: (B, H, W, C) uint8.
        seed: of the draws; the global generators are left as they were.
    """
    v2 = torchvision_import.module("torchvision.transforms.v2")
    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's generator of the CPU
        torch.manual_seed(seed)
        return torch.stack([policy(image) for image in images.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1)


def cutmix(images: Tensor, draws: Tensor) -> Tensor:
    """Paste a box of the next image of the batch over each (Yun et al., ICCV 2019), at most half of it.

    CutMix mixes labels by area. Methods here take one label an image, so the pasted part never exceeds one half, and
    the label stays that of the larger part.

    Args:
        images: (B, H, W, C), any type.
        draws: (3, B) uniform in [0, 1): mixing share, centre's row and column.
    """
    height, width = images.shape[1:3]
    side = torch.minimum(
        draws[0], 1 - draws[0]
    ).sqrt()  # of a uniform share, Beta(1, 1), the image keeps the larger part
    inside = []
    for length, centre in ((height, draws[1]), (width, draws[2])):
        size, place = (side * length).long(), torch.arange(length, device=images.device)
        first = (centre * length).long() - size // 2  # a box beyond the edge is cut off there, as in the release
        inside.append((place >= first[:, None]) & (place < (first + size)[:, None]))
    box = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return torch.where(box, images.roll(1, 0), images)


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
