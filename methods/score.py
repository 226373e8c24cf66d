"""SCORE: Robustness and Accuracy Could Be Reconcilable by (Proper) Definition (Pang et al., ICML 2022).

https://arxiv.org/abs/2202.10103
"""

from dataclasses import dataclass
from math import inf

import torch.nn.functional as F
from torch import Tensor

from advbench.benchmark.losses import softmax
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task, knob


def squared(p: Tensor, q: Tensor) -> Tensor:
    """Squared distance (B,) of two rows of probabilities."""
    return (p - q).square().sum(dim=1)


@dataclass(frozen=True)
class SCORE(Method[OneNetwork]):
    """L = mean ‖p(x) − y‖² + beta mean ‖p(x') − p(x)‖², x' = argmax ‖p(x') − p(x)‖²: TRADES with squared errors."""

    beta: float = knob(4.0, "release")
    card = Card(
        name="score",
        label="SCORE",
        title="Robustness and Accuracy Could Be Reconcilable by (Proper) Definition",
        authors="Pang, Tianyu and Lin, Min and Yang, Xiao and Zhu, Jun and Yan, Shuicheng",
        venue="ICML",
        year=2022,
        url="https://arxiv.org/abs/2202.10103",
        key="pang2022robustness",
        code="https://github.com/P2333/SCORE",
        family="regularised",
        forwards=27,
        differs=(
            "Crafts in eval mode (the release: train mode, statistics held).",
            "Train-mode forwards in the order x', x (the release: x, x').",
            "Without the release's generated data, weight averaging and Swish networks, which are a protocol's.",
        ),
        notes=("schedule differs from the method's own",),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.beta < inf:
            raise ValueError("beta must be 0 or more and finite")

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        """Return the squared error of clean probabilities and beta times their distance from the adversarial ones."""
        reference = softmax(step.predict(nets.target, batch.x))
        x_adv = step.craft(batch.x, lambda x: squared(softmax(nets.target(x)), reference).sum())
        p_adv, p = softmax(nets.target(x_adv)), softmax(nets.target(batch.x))
        return squared(p, F.one_hot(batch.y, p.shape[1])).mean() + self.beta * squared(p_adv, p).mean()
