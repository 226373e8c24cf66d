"""CW-L∞: PGD on the margin loss of Carlini and Wagner ("Towards Evaluating the Robustness of Neural Networks", 2017).

The loss is f_6 of their Section V with κ → ∞ and its sign turned: max_{j≠y} z_j − z_y, ascended by sign steps.
"""

from torch import Tensor

from advbench.benchmark.losses import margin_each


def margin_sum(logits: Tensor, y: Tensor) -> Tensor:
    """Margin max_{j≠y} z_j − z_y, summed over images."""
    return margin_each(logits, y).sum()
