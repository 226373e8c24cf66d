"""Standard training: cross-entropy on clean images, no adversary. The floor of every board."""

from dataclasses import dataclass

from torch import Tensor

from advbench.benchmark.losses import ce_mean
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task


@dataclass(frozen=True)
class Standard(Method[OneNetwork]):
    """L = CE(z(x), y)."""

    card = Card(
        name="standard",
        label="Standard",
        title="Deep Residual Learning for Image Recognition",
        authors="He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        venue="CVPR",
        year=2016,
        url="https://arxiv.org/abs/1512.03385",
        key="he2016deep",
        family="standard",
        robust=False,
        forwards=3,
        notes=("selected by clean validation accuracy",),
    )

    def build(self, task: Task) -> OneNetwork:
        """Train one network."""
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:  # noqa: ARG002 (no inner maximisation)
        """Return the cross-entropy on clean images."""
        return ce_mean(nets.target(batch.x), batch.y)
