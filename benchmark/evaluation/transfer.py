"""The transfer matrix of a board: the PGD-20 examples of every network, judged by every other. L∞.

Row: the network on which examples are made; column: the network that is to withstand them. The diagonal is white-box
PGD-20 from the same start. A column whose smallest value is not on the diagonal has gradients that mislead.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import nn

from advbench.benchmark.data.splits import Split
from advbench.benchmark.evaluation.arena import entered
from advbench.benchmark.evaluation.other_threats import pieces
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.shard_result import EvaluationError


def matrix(
    networks: Mapping[str, nn.Module],
    split: Split,
    *,
    protocol: Protocol,
    images: int,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Return, as JSON data, the accuracy of every network on the examples of every network.

    An image counts where the judging network is right on it both clean and attacked, as everywhere.

    Args:
        networks: by name, in eval mode on the split's device.
        split: the test set.
        protocol: radius, steps of PGD-20, shard size.
        images: how many test images, from the first on.
        say: told what is being done.

    Raises:
        EvaluationError: for fewer than two networks, or one that cannot be evaluated; one line.
    """
    if len(networks) < 2:
        raise EvaluationError(f"a transfer matrix needs two networks or more, there is {len(networks)}")
    names = list(networks)
    right = {name: [0] * len(names) for name in names}
    clean = dict.fromkeys(names, 0)
    for first, x, y in pieces(split, images, protocol.attacks.shard):
        with ExitStack() as stack:
            indices = range(first, first + len(x))
            arenas = {
                name: stack.enter_context(entered(network, x, y, images=indices, protocol=protocol))
                for name, network in networks.items()
            }
            for source, network in networks.items():
                say(f"examples of {source}, images {first} to {indices[-1]}")
                x_adv = arenas[source].examples_of(network)
                for column, target in enumerate(names):
                    right[source][column] += int(arenas[target].judge(x_adv).right.sum())
            for name, arena in arenas.items():
                clean[name] += int(arena.right.sum())
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
