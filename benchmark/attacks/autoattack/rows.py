"""The queue of the engine: rows, one for each image and target class, that enter, advance and leave on their own.

A row's state is its own, so it may leave as soon as its image is fooled and another may take its place: batches stay
full, and what a row does depends on no other row.
"""

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from advbench.benchmark.losses import margin_each


@dataclass(frozen=True)
class Pairs:
    """Images, and for each the class to be reached, not yet under way.

    Attributes:
        image: index of the image, int64 (R,).
        target: target class, int64 (R,); untargeted attacks ignore it.
        rank: how many classes the clean logits put before the target, int64 (R,); names the row's random draws.
    """

    image: Tensor
    target: Tensor
    rank: Tensor

    def take(self, index: Tensor) -> "Pairs":
        """Return the pairs at `index`, or those where a bool mask holds."""
        return Pairs(self.image[index], self.target[index], self.rank[index])


@dataclass
class Rows:
    """The state of rows under way: a struct of tensors with one leading dimension.

    Attributes:
        image: index of the image, int64 (R,).
        y: its label, int64 (R,).
        target: the class to be reached, int64 (R,).
        age: how many evaluations the row has had, int64 (R,).
    """

    image: Tensor
    y: Tensor
    target: Tensor
    age: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def take(self, index: Tensor) -> Self:
        """Return the rows at `index`, or those where a bool mask holds."""
        return dataclasses.replace(self, **{name: value[index] for name, value in self._tensors().items()})

    def join(self, other: Self) -> Self:
        """Return these rows and then the others."""
        theirs = other._tensors()
        return dataclasses.replace(
            self, **{name: torch.cat([value, theirs[name]]) for name, value in self._tensors().items()}
        )

    def _tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass
class Findings:
    """Adversarial images found so far.

    Attributes:
        x_adv: the proposal for each image, the clean image where there is none, (n, C, H, W).
        excess: how far the largest wrong logit exceeds that of the label on the proposal, (n,); −∞ without one.
        tolerance: an excess above it settles an image, one below may be rounding: its rows stay under way.
    """

    x_adv: Tensor
    excess: Tensor
    tolerance: float

    @classmethod
    def none(cls, x: Tensor, tolerance: float) -> Self:
        """Return the findings for images x before any attack."""
        return cls(x.clone(), torch.full((len(x),), -torch.inf, device=x.device), tolerance)

    @property
    def fooled(self) -> Tensor:
        """Whether there is a proposal, bool (n,)."""
        return self.excess > -torch.inf

    @property
    def settled(self) -> Tensor:
        """Whether the image needs no further attack, bool (n,)."""
        return self.excess > self.tolerance

    def report(self, rows: Rows, x_adv: Tensor, logits: Tensor, among: Tensor | None = None) -> Tensor:
        """Keep what is misclassified, of the rows where `among` holds; return which rows are, bool (R,)."""
        wrong = logits.argmax(dim=1) != rows.y
        legal = wrong if among is None else wrong & among
        if bool(legal.any()):
            excess = margin_each(logits[legal], rows.y[legal]).nan_to_num(nan=torch.inf)
            self.add(rows.image[legal], x_adv[legal], excess)
        return wrong

    def add(self, image: Tensor, x_adv: Tensor, excess: Tensor) -> None:
        """Keep what exceeds what was known; `image` may name an image several times."""
        best = self.excess.scatter_reduce(0, image, excess, "amax")
        better = (excess > self.excess[image]) & (excess == best[image])
        at = image[better]
        self.x_adv[at] = x_adv[better]
        self.excess[at] = excess[better]


R = TypeVar("R", bound=Rows)


class Attack(Protocol[R]):
    """An attack on rows."""

    evaluations: int
    """After how many a row ends."""

    def begin(self, pairs: Pairs) -> R:
        """Return the rows of pairs before their first evaluation."""

    def advance(self, rows: R, findings: Findings) -> R:
        """Evaluate each row once, report what is adversarial, and return the rows as they are afterwards."""


def drive(attack: Attack[R], pairs: Pairs, findings: Findings, *, capacity: int) -> None:
    """Take every pair through the attack, `capacity` rows at a time; rows of settled images leave or never start."""
    waiting = deque(pairs.take(part) for part in torch.split(torch.arange(len(pairs.image)), max(1, capacity // 4)))
    rows: R | None = None
    while True:
        while waiting and (rows is None or len(rows) <= capacity - capacity // 4):
            fresh = waiting.popleft()
            fresh = fresh.take(~findings.settled[fresh.image])
            if len(fresh.image):
                begun = attack.begin(fresh)
                rows = begun if rows is None else rows.join(begun)
        if rows is None or len(rows) == 0:
            return
        rows = attack.advance(rows, findings)
        leaves = findings.settled[rows.image] | (rows.age >= attack.evaluations)
        if bool(leaves.any()):
            rows = rows.take(~leaves)
