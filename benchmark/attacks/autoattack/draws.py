"""Random numbers of the engine: those of the reference implementation, or numbers that belong to an image.

The reference draws from one generator for whoever is left, so a number depends on the company. Numbers by image are
counter-based (see `random_starts`): they depend on the key, the image and the rank of the target alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from advbench.benchmark.attacks import random_starts
from advbench.benchmark.attacks.autoattack.square import SquareDraws
from advbench.benchmark.attacks.ball import Norm


class Draws(Protocol):
    """Where random numbers come from."""

    def noise(self, image: Tensor, rank: Tensor, shape: Sequence[int], norm: Norm) -> Tensor:
        """Return noise (R, *shape) for images and ranks of targets: uniform in [-1, 1), in L2 normal."""

    def square(self, image: Tensor, shape: Sequence[int], queries: int) -> SquareDraws:
        """Return the numbers of Square Attack for images of shape (C, H, W)."""


class ReferenceDraws:
    """The numbers that pyautoattack draws with this seed, if it is asked in the same order for the same images."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def noise(self, image: Tensor, rank: Tensor, shape: Sequence[int], norm: Norm) -> Tensor:  # noqa: ARG002 (as `Draws`)
        """Return the next numbers of the generator; `rank` is not looked at."""
        size = (len(image), *shape)
        if norm == "linf":
            return 2 * torch.rand(size, generator=self.generator) - 1
        return torch.randn(size, generator=self.generator)

    def square(self, image: Tensor, shape: Sequence[int], queries: int) -> SquareDraws:
        """Return the next numbers of the generator."""
        channels, _, width = shape
        stripes = torch.rand((len(image), channels, 1, width), generator=self.generator)
        squares = torch.rand((queries, 2 + channels), generator=self.generator)
        return SquareDraws((2 * stripes - 1).sign(), squares)


@dataclass(frozen=True)
class ImageDraws:
    """Numbers by (key, attack, image, rank of the target).

    Attributes:
        key: what stands for protocol and run.
        attack: the attack's name.
        images: test index of each image that is attacked.
    """

    key: str
    attack: str
    images: Sequence[int]

    def noise(self, image: Tensor, rank: Tensor, shape: Sequence[int], norm: Norm) -> Tensor:
        """Return the numbers of each pair."""
        parts = [
            random_starts.uniform(self.key, self.attack, [self.images[i]], shape, draw=r)
            for i, r in zip(image.tolist(), rank.tolist(), strict=True)
        ]
        unit = torch.cat(parts)
        if norm == "linf":
            return unit
        share = (unit.double() + 1) / 2 + 2.0**-25  # the middle of each of 2^24 cells: neither 0 nor 1
        normal: Tensor = torch.special.ndtri(share).float()
        return normal

    def square(self, image: Tensor, shape: Sequence[int], queries: int) -> SquareDraws:
        """Return stripes by image and squares for all."""
        channels, _, width = shape
        images = [self.images[i] for i in image.tolist()]
        stripes = random_starts.uniform(self.key, f"{self.attack}|stripes", images, (channels, 1, width))
        squares = random_starts.uniform(self.key, f"{self.attack}|squares", [0], (queries, 2 + channels))[0]
        return SquareDraws(torch.where(stripes < 0, -1.0, 1.0), (squares + 1) / 2)
