"""The network as an attack and the judge see it: frozen, in eval mode, in strict fp32, always differentiable."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from advbench.benchmark.models.torch_state import evaluating


class ForwardError(ValueError):
    """A network that does not turn images into logits; the message is one line."""


class View(nn.Module):
    """A network wrapped for attacking; its logits are those of the network, bit for bit.

    What it adds keeps attacks alive on networks that would break them: an empty batch gives no logits without a
    forward; a graph that the network cut becomes a zero gradient, not an exception; logits are the attack's own copy
    (Square writes into them); unless `raw`, a NaN in the input gradient becomes 0 and an infinity the largest number.

    Attributes:
        num_classes: classes C of the logits (B, C), as the last forward had them.
    """

    def __init__(self, network: nn.Module, *, raw: bool = False) -> None:
        super().__init__()
        self.network = network
        self.num_classes = 0
        self.raw = raw

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, C) of images (B, channels, H, W).

        Raises:
            ForwardError: if the network raises, or gives anything but a tensor.
        """
        if len(x) == 0:
            return x.new_zeros((0, self.num_classes))
        differentiated = torch.is_grad_enabled() and x.requires_grad
        if differentiated and not self.raw:
            x = x.view_as(x)
            x.register_hook(torch.nan_to_num)  # type: ignore[no-untyped-call]  # torch
        try:
            logits = self.network(x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a network of unknown code may raise anything
            message = str(error).partition("\n")[0]
            raise ForwardError(f"the network does not take images {tuple(x.shape)}: {message}") from error
        if not isinstance(logits, Tensor):
            raise ForwardError(f"the network gives a {type(logits).__name__}, not a tensor of logits")
        self.num_classes = logits.shape[-1]
        logits = logits.clone() if logits.dtype in {torch.float32, torch.float64} else logits.float()
        if differentiated and not logits.requires_grad:
            return logits + 0 * x.flatten(1).sum(dim=1, keepdim=True)
        return logits


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Hold every module of `network` in eval mode and every parameter free of gradients; restore both afterwards.

    Without weight gradients a backward pass costs F instead of 2F; the reference FAB would compute them.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    with evaluating(network):
        network.requires_grad_(requires_grad=False)
        try:
            yield
        finally:
            for parameter, requires_grad in wanted:
                parameter.requires_grad_(requires_grad)


_PRECISIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")


@contextmanager
def strict_fp32(device: torch.device) -> Iterator[None]:
    """Compute in true fp32 inside: no TF32 or bf16 in convolutions and matmuls, no autocast, deterministic cuDNN.

    Restores every switch. torch 2.9 replaced `allow_tf32` by `fp32_precision`; reading one after writing the other
    raises, so the new switch is used wherever there is one.
    """
    cudnn = torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    restore = _new_switches() if hasattr(cudnn, "conv") else _old_switches()
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
        for undo in restore:
            undo()


def _new_switches() -> list[partial[None]]:
    """Set every `fp32_precision` to "ieee"; return what undoes it."""
    undo = []
    for path in _PRECISIONS:
        owner = torch.backends
        for name in path.split("."):
            owner = getattr(owner, name)
        undo.append(partial(setattr, owner, "fp32_precision", owner.fp32_precision))  # type: ignore[attr-defined]  # torch
        owner.fp32_precision = "ieee"  # type: ignore[attr-defined]  # torch
    return undo


def _old_switches() -> list[partial[None]]:
    """Forbid TF32 as torch before 2.9 does; return what undoes it."""
    undo = [
        partial(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32),
        partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
    ]
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    return undo
