"""The pass ledger: counts images × passes, the machine-independent cost of training and evaluation.

A forward pass of one image costs F, an input-gradient pass F, a weight-gradient pass 2F (activations and weights):
PGD-AT with ten inner steps is 10·(F + F) + F + 2F = 23F. Counting hooks the root of every watched network, so it costs
nothing; tests compare it with the FLOPs that were really computed.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

from advbench.benchmark.records.schema import Passes


class Ledger:
    """Counts the passes of the networks it watches, copies made by `copy.deepcopy` included."""

    def __init__(self) -> None:
        self._forward = 0
        self._input_gradient = 0
        self._weight_gradient = 0
        self._kind: Literal["input", "weight"] = "weight"
        self._attacked: Counter[int] = Counter()

    def watch(self, net: nn.Module, head: nn.Module | None = None) -> nn.Module:
        """Count every forward of `net`, and every backward through its output; return it.

        With `head`, the layer from features to logits, a backward from features alone counts, too.
        """
        features: list[Tensor] = []

        # Closures, not bound methods: deepcopy shares functions but would copy the ledger behind a bound method.
        def entered(_head: nn.Module, args: tuple[Tensor, ...]) -> None:
            features[:] = args

        def counted(module: nn.Module, args: tuple[object, ...], named: dict[str, object], logits: Tensor) -> None:
            images, attacked = len(logits), None
            self._forward += images
            if any(isinstance(value, Tensor) and value.requires_grad for value in (*args, *named.values())):
                attacked = id(module)
            # Every gradient passes the features, once in a backward, also where it comes from the logits.
            last = next((value for value in (*features, logits) if value.requires_grad), None)
            features.clear()
            if last is not None:
                last.register_hook(lambda _g: self._backward(images, attacked))  # type: ignore[no-untyped-call]  # torch

        if head is not None:
            head.register_forward_pre_hook(entered)
        net.register_forward_hook(counted, with_kwargs=True)
        return net

    def _backward(self, images: int, attacked: int | None) -> None:
        if attacked is not None:
            self._attacked[attacked] += images
        if self._kind == "input":
            self._input_gradient += images
        else:
            self._weight_gradient += images

    @contextmanager
    def differentiating(self, kind: Literal["input", "weight"]) -> Iterator[None]:
        """Say what a backward pass inside computes: gradients of the input alone, or of the weights (the default)."""
        before, self._kind = self._kind, kind
        try:
            yield
        finally:
            self._kind = before

    @property
    def passes(self) -> Passes:
        """What was counted since the last reset."""
        return Passes(
            forward=self._forward,
            input_gradient=self._input_gradient,
            weight_gradient=self._weight_gradient,
        )

    @property
    def attacked(self) -> tuple[int, ...]:
        """Images whose gradient by the input was computed, for each such network, since `begin_batch`.

        Whoever computed it, and whether weights took a gradient with it: crafting by hand counts.
        """
        return tuple(self._attacked.values())

    def begin_batch(self) -> None:
        """Count `attacked` from zero."""
        self._attacked.clear()

    def reset(self) -> Passes:
        """Start again from zero; return what was counted before."""
        before = self.passes
        self._forward = self._input_gradient = self._weight_gradient = 0
        return before
