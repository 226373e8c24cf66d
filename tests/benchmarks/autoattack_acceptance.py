"""Is an engine as strong as pyautoattack? Both over several checkpoints and seeds, through the evaluator.

    python tests/benchmarks/autoattack_acceptance.py exact digits-linf:smallcnn:a.safetensors … --images 100

The rule: over at least 8 checkpoints (two networks; standard, PGD-AT, TRADES, a founding method) and 3 seeds, the mean
of |AutoAttack − reference| is at most 0.05 points, and no checkpoint is more than 0.10 points weaker. On fewer than
1,000 images a single one is worth more than that: there the rule is read in images, a mean of at most half an image,
and none weaker by more than one, beside how far pyautoattack with another seed is from itself.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path

import torch

from advbench.benchmark.data import registry
from advbench.benchmark.evaluation.evaluator import evaluate_shard
from advbench.benchmark.models import architectures
from advbench.benchmark.models.weight_files import load_weights
from advbench.benchmark.protocol import resolve

CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "tinyimagenet": 200}
MEAN_POINTS, WORST_POINTS = 0.05, 0.10
MEAN_IMAGES, WORST_IMAGES = 0.5, 1


def survivors(place, images, engine, seeds):
    """Return for each seed which images are left, after every attack in sequence, (seeds, n) of bool."""
    name, network, weights = place.split(":", 2)
    protocol = resolve(name)
    protocol = dataclasses.replace(protocol, attacks=dataclasses.replace(protocol.attacks, shard=images))
    x, y = registry.load(protocol.data, device="cpu").test.take(range(images))
    net = architectures.build(network, num_classes=CLASSES[protocol.data.name], channels=x.shape[1])
    load_weights(net, Path(weights))
    return [
        evaluate_shard(
            net, x, y, first=0, family="autoattack", protocol=protocol, seed=seed, autoattack_by=engine
        ).columns["autoattack"]
        for seed in seeds
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=["reference", "exact"])
    parser.add_argument("checkpoints", nargs="+", metavar="PROTOCOL:NETWORK:WEIGHTS")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds, images = range(arguments.seeds), arguments.images

    engine = arguments.engine
    heads = ("checkpoint", "seed", "pyautoattack", engine, "only pyautoattack fools", f"only {engine} fools")
    print("| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", sep="\n")
    differences, own = [], []
    for place in arguments.checkpoints:
        theirs = survivors(place, images, "pyautoattack", seeds)
        ours = survivors(place, images, engine, seeds)
        for seed, left, kept in zip(seeds, theirs, ours, strict=True):
            name = ":".join((*place.split(":")[:2], Path(place).stem))
            counts = (seed, left.sum(), kept.sum(), (kept & ~left).sum(), (left & ~kept).sum())
            print("| " + " | ".join((name, *map(str, counts))) + " |", flush=True)
            differences.append(int(kept.sum()) - int(left.sum()))
        own += [abs(int(a.sum()) - int(b.sum())) for a in theirs for b in theirs if a is not b]
    judge(differences, own, images, len(arguments.checkpoints))


def judge(differences, own, images, checkpoints):
    """Print the verdict; above 0 is weaker."""
    mean, worst = statistics.mean(map(abs, differences)), max(differences)
    points = images >= 1000
    bounds = (MEAN_POINTS, WORST_POINTS) if points else (MEAN_IMAGES, WORST_IMAGES)
    figures = (100 * mean / images, 100 * worst / images) if points else (mean, worst)
    unit = "points" if points else "images"
    print(f"\nmean difference {figures[0]:.3f} {unit} (at most {bounds[0]}), ", end="")
    print(f"weakest {figures[1]:+.3f} (at most {bounds[1]})")
    if own:
        print(f"pyautoattack differs from itself under another seed by {statistics.mean(own):.3f} images")
    fits = figures[0] <= bounds[0] and figures[1] <= bounds[1]
    enough = checkpoints >= 8
    print("accepted" if fits and enough else "within the rule, but on too few checkpoints" if fits else "NOT accepted")


if __name__ == "__main__":
    main()
