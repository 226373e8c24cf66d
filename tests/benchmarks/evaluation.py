"""Time the evaluator on one shard: seconds and passes of each family of attacks.

    python tests/benchmarks/evaluation.py cifar10-linf --images 400 --device cuda --weights best.safetensors

Without weights the network is untrained and its own predictions are the labels: such images fall to the first attack,
so AutoAttack's figure says nothing then. Images are uniform noise unless --data gives the protocol's test images.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from advbench.benchmark.data import registry
from advbench.benchmark.evaluation.evaluator import ATTACKS, evaluate_shard
from advbench.benchmark.models import architectures
from advbench.benchmark.models.weight_files import load_weights
from advbench.benchmark.protocol import resolve

SHAPES = {"digits": (10, 1, 8), "cifar10": (10, 3, 32), "cifar100": (100, 3, 32), "tinyimagenet": (200, 3, 64)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", action="store_true", help="attack the protocol's test images")
    parser.add_argument("--families", nargs="+", default=ATTACKS, choices=ATTACKS)
    arguments = parser.parse_args()

    protocol = resolve(arguments.protocol)
    protocol = dataclasses.replace(protocol, attacks=dataclasses.replace(protocol.attacks, shard=arguments.images))
    classes, channels, pixels = SHAPES[protocol.data.name]
    torch.manual_seed(0)
    net = architectures.build(protocol.network, num_classes=classes, channels=channels).to(arguments.device).eval()
    if arguments.weights:
        load_weights(net, arguments.weights)
    if arguments.data:
        test = registry.load(protocol.data, device=arguments.device).test
        x, y, _ = next(test.batches(arguments.images))
    else:
        x = torch.rand(arguments.images, channels, pixels, pixels, device=arguments.device)
        with torch.no_grad():
            y = net(x).argmax(1)

    print(f"{protocol.network}, {len(x)} images, {arguments.device}")
    print(f"{'':14}{'seconds':>10}{'F per image':>14}{'F per second':>14}{'right':>8}")
    for family in arguments.families:
        result = evaluate_shard(net, x, y, first=0, family=family, protocol=protocol, seed=0)
        for name, cost in result.costs.items():
            passes = cost.passes.forwards
            bits = {**result.columns, **result.stages}.get(name)
            right = "" if bits is None else f"{bits.mean():.1%}"
            rate = passes / cost.seconds
            print(f"{name:14}{cost.seconds:10.2f}{passes / len(x):14.1f}{rate:14.0f}{right:>8}")


if __name__ == "__main__":
    main()
