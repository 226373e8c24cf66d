"""Somebody else's network behind the interface of ours: whatever its code does, images stay what they are."""

import torch
from torch import Tensor, nn

from advbench.benchmark.models.state_dicts import first_words
from advbench.benchmark.models.torch_state import evaluating


class ExternalNetwork(nn.Module):
    """A network of unknown code.

    It is handed copies of the images, contiguous in NCHW: preprocessing in place cannot change what the attack and the
    judge see, and `view` works whatever the strides of the batch were. One that cannot be differentiated is run without
    gradients; attacks see a gradient of zero, and the flags say so.

    Attributes:
        without_gradient: why no gradient can be taken; None: it can.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.without_gradient: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on a copy of images (B, C, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.without_gradient is None):
            logits: Tensor = self.network(x.clone(memory_format=torch.contiguous_format))
        return logits

    def try_gradient(self, x: Tensor) -> None:
        """Find out on images (B, C, H, W) whether a gradient can be taken, and note why not."""
        leaf = x.detach().clone().requires_grad_()
        try:
            with torch.enable_grad(), evaluating(self):
                logits = self(leaf)
                if not logits.requires_grad:
                    return  # a zero gradient without an error: `View` gives one
                gradients: tuple[Tensor | None, ...] = torch.autograd.grad(logits.sum(), leaf, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (anything may happen in a network of the user)
            self.without_gradient = f"{type(error).__name__}: {first_words(error)}"
        else:
            if gradients[0] is None:
                self.without_gradient = "its graph does not lead back to the image"
