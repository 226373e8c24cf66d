"""The transfer matrix of a board: the PGD-20 examples of every network, judged by every other. L∞.

Row: the network on which examples are made; column: the network that is to withstand them. The diagonal is white-box
PGD-20 from the same start. A column whose smallest value is not on the diagonal has gradients that mislead.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks import pgd, random_starts
from advbench.benchmark.attacks.wrapped_network import ForwardError, View, frozen, strict_fp32
from advbench.benchmark.data.splits import Split
from advbench.benchmark.evaluation.evaluator import dispose, predicted
from advbench.benchmark.evaluation.other_threats import pieces
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.outcomes import EvaluationError


def matrix(
    networks: Mapping[str, nn.Module],
    split: Split,
    *,
    protocol: Protocol,
    images: int,
    say: Callable[[str], None] = lambda _said: None,
) -> dict[str, Any]:
    """Return, as JSON data, the accuracy of every network on the examples of every network.

    An image counts where the judging network is right on it both clean and attacked, as everywhere.

    Args:
        networks: by name, in eval mode on the split's device.
        split: the test set.
        protocol: radius, steps of PGD-20, shard size.
        images: how many test images, from the first on.
        say: told which network is being attacked.

    Raises:
        EvaluationError: for fewer than two networks, or one that cannot be evaluated; one line.
    """
    if len(networks) < 2:
        raise EvaluationError(f"a transfer matrix needs two networks or more, there is {len(networks)}")
    names = list(networks)
    right = {name: [0] * len(names) for name in names}
    clean = dict.fromkeys(names, 0)
    spec, eps = protocol.attacks.pgd20, float(protocol.threat.eps)
    try:
        for source, network in networks.items():
            say(source)
            for first, x, y in pieces(split, images, protocol.attacks.shard):
                unit = random_starts.uniform(protocol.digest, "transfer", range(first, first + len(x)), x.shape[1:])
                start = pgd.start(x, unit.to(x.device), eps)
                with frozen(network), strict_fp32(x.device):
                    run = pgd.iterates(View(network), x, y, start, eps=eps, step=float(spec.step), at=[spec.steps])
                    x_adv = dispose(next(iter(run)), x, eps)
                for column, (target, other) in enumerate(networks.items()):
                    unharmed = _right(other, x, y)
                    right[source][column] += int((unharmed & _right(other, x_adv, y)).sum())
                    clean[target] += int(unharmed.sum()) if source == names[0] else 0
    except ForwardError as error:
        raise EvaluationError(str(error)) from error.__cause__
    return {
        "kind": "transfer",
        "protocol": protocol.name,
        "eps": str(protocol.threat.eps),
        "images": images,
        "test": len(split),
        "names": names,
        "clean": [clean[name] / images for name in names],
        "accuracy": [[count / images for count in right[name]] for name in names],
    }


def _right(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with frozen(network), strict_fp32(x.device), torch.no_grad():
        return predicted(View(network)(x)) == y
