"""The network as the engine runs it: a frozen copy, batch norm folded into convolutions, channels last.

Nothing is assumed to be harmless: the copy is used only if its logits and input gradients agree with those of the
network itself on a sample; else the network itself is used.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advbench.benchmark.attacks import random_starts
from advbench.benchmark.attacks.wrapped_network import View
from advbench.benchmark.models.torch_state import evaluating

FEWEST_ROWS = 8
"""From here on logits do not depend on company: matrix products of fewer rows take another path on CPUs."""
_SAMPLE = 16
_LOGITS_AGREE = 1e-4
_GRADIENTS_AGREE = 1e-2


@dataclass(frozen=True)
class NetworkView:
    """What the engine asks for logits and gradients.

    Attributes:
        network: a `View`, frozen and in eval mode.
        tolerance: logit margins below this are a matter of rounding: the network itself may decide otherwise.
        description: what was done to the network, for the record.
        fewest: smaller batches are filled up to this many rows.
        outlet: every answer leaves through it, so that a ledger that watches it counts the passes.
    """

    network: View
    tolerance: float
    description: str
    fewest: int = 1
    outlet: nn.Module = field(default_factory=nn.Identity)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (B, C) without a graph."""
        with torch.no_grad():
            return self.graph(x)

    def value_and_gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, C), values of `loss(logits)` (B,) and their gradients at x, all without a graph."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.graph(leaf)
            values = loss(logits)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return logits.detach(), values.detach(), gradient

    def graph(self, x: Tensor) -> Tensor:
        """Return logits (B, C) that gradients flow back from, if x wants any."""
        missing = self.fewest - len(x)
        if missing <= 0 or len(x) == 0:
            logits: Tensor = self.outlet(self.network(x))
            return logits
        filled: Tensor = self.outlet(self.network(torch.cat([x, x[:1].detach().expand(missing, *x.shape[1:])])))
        return filled[: len(x)]


def plain(network: nn.Module) -> NetworkView:
    """Return a view of the network as it is; the caller freezes it."""
    view = network if isinstance(network, View) else View(network)
    return NetworkView(view, 0.0, "as it is")


def prepare(network: nn.Module, x: Tensor) -> NetworkView:
    """Return the fastest view of a network in eval mode whose outputs agree with it on a sample.

    Args:
        network: the network itself, not a `View`.
        x: images (n, C, H, W) of the kind that is attacked. The sample is noise of their shape, not some of them, so
            that the view and its tolerance are the same for every shard.
    """
    unit = random_starts.uniform("network view", "sample", range(_SAMPLE), x.shape[1:])
    sample = (unit / 2 + 0.5).to(x.device)
    with evaluating(network):
        for fold in (True, False):
            candidate = _copy(network, sample, fold=fold)
            if candidate is not None:
                return candidate
    return plain(network)


def _copy(network: nn.Module, sample: Tensor, *, fold: bool) -> NetworkView | None:
    """Return a view of a frozen copy; None if there is no copy that agrees with the network on the sample."""
    try:
        duplicate = copy.deepcopy(network).eval()
        for module in duplicate.modules():
            module._forward_hooks.clear()  # noqa: SLF001 (hooks count the passes of the original, not of its copy)
            module._forward_pre_hooks.clear()  # noqa: SLF001 (as above)
        if fold:
            duplicate = folded(duplicate)
        duplicate.requires_grad_(requires_grad=False)
        duplicate.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # the stub does not know it
        difference = _difference(network, duplicate, sample)
    except Exception:  # noqa: BLE001 (whatever an external network cannot do, it is then run as it is)
        return None
    if difference is None:
        return None
    description = "batch norm folded, channels last" if fold else "channels last"
    return NetworkView(View(duplicate), 10 * difference + 1e-6, description)


def folded(network: nn.Module) -> torch.fx.GraphModule:
    """Return the network with every batch norm that follows a convolution folded into it; `network` is taken over.

    Raises:
        Exception: whatever tracing raises if the graph depends on data.
    """
    traced = torch.fx.symbolic_trace(network)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        source = node.args[0]
        if source.op != "call_module" or type(modules[source.target]) is not nn.Conv2d or len(source.users) > 1:
            continue
        shared = sum(other.target in {node.target, source.target} for other in traced.graph.nodes) > 2
        if shared:
            continue
        fused = fuse_conv_bn_eval(modules[source.target], modules[node.target])
        parent, _, name = source.target.rpartition(".")
        setattr(modules[parent], name, fused)
        modules[source.target] = fused
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _difference(network: nn.Module, candidate: nn.Module, sample: Tensor) -> float | None:
    """Return the largest difference of logits on the sample; None if logits or gradients disagree."""
    wanted, expected = _probe(network, sample)
    given, gradient = _probe(candidate, sample)
    if wanted.shape != given.shape or not bool(given.isfinite().all()):
        return None
    difference = float((wanted - given).abs().amax())
    scale = max(1.0, float(wanted.abs().amax()))
    error = float((expected - gradient).norm())
    if difference > _LOGITS_AGREE * scale or error > _GRADIENTS_AGREE * float(expected.norm()):
        return None
    return difference


def _probe(network: nn.Module, sample: Tensor) -> tuple[Tensor, Tensor]:
    leaf = sample.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = network(leaf)
        (gradient,) = torch.autograd.grad(logits.logsumexp(dim=1).sum(), leaf)
    return logits.detach(), gradient
