"""Time our AutoAttack engine against pyautoattack, attack by attack, in interleaved pairs, and compare the survivors.

    python tests/benchmarks/autoattack.py smallcnn cifar10 --weights best.pt --images 64 --repeats 3

Both attack the same survivors with the same seed on one thread; pyautoattack is called as its own users call it, on
the network in eval mode. Times are CPU seconds (`time.process_time`), so a busy machine matters less. Without weights
the network is trained for a moment on the images' classes, with noise: enough that some images survive.
Prints a Markdown table.
"""

import argparse
import contextlib
import dataclasses
import statistics
import time
from pathlib import Path

import torch
from pyautoattack import AutoAttack
from torch import nn

from advbench.benchmark.attacks.autoattack import engine, network_view, targets
from advbench.benchmark.attacks.wrapped_network import frozen, strict_fp32
from advbench.benchmark.data import registry
from advbench.benchmark.models import architectures
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.models.weight_files import load_weights
from advbench.benchmark.protocol import resolve
from advbench.benchmark.records.schema import STAGES
from advbench.benchmark.runs.environment import describe

SEED = 7


def right(net, x, y):
    with torch.no_grad():
        return net(x).argmax(1) == y


def theirs(net, images, eps, attack):
    x, y = images
    net.requires_grad_(True)
    reference = AutoAttack(net, norm="Linf", eps=eps, seed=SEED, version="standard")
    reference.verbose, reference.attacks_to_run = False, [attack]
    reference.apgd_targeted.n_target_classes = reference.fab.n_target_classes = targets(10)
    return reference.run_standard_evaluation(x, y, batch_size=len(x))[0], None


def ours(net, images, eps, attack, mode):
    x, y = images
    ledger = Ledger()
    with frozen(net), strict_fp32(x.device), ledger.differentiating("input"):
        view = network_view.prepare(net, x)
        ledger.watch(view.outlet)
        request = engine.Request(attack, "linf", eps, targets(10), mode, SEED, "bench", range(len(x)))
        return engine.propose(view, x, y, request), ledger.passes.forwards / len(x)


def timed(run):
    started = time.process_time()
    x_adv, passes = run()
    return time.process_time() - started, x_adv, passes


def taught(net, split, eps):
    """Train for two passes of noisy images: a stand-in for weights."""
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for _ in range(2):
        for x, y, _ in split.batches(128):
            noisy = (x + eps * (2 * torch.rand_like(x) - 1).sign()).clamp(0, 1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(noisy), y).backward()
            optimizer.step()
    return net


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=architectures.names())
    parser.add_argument("protocol")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mode", choices=["reference", "exact"], default="reference")
    parser.add_argument("--attacks", nargs="+", default=STAGES, choices=STAGES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    protocol = resolve(arguments.protocol)
    protocol = dataclasses.replace(protocol, network=arguments.network)
    data, eps = registry.load(protocol.data, device="cpu"), float(protocol.threat.eps)
    x, y = data.test.take(range(arguments.images))
    torch.manual_seed(0)
    net = architectures.build(arguments.network, num_classes=10, channels=x.shape[1])
    if arguments.weights:
        load_weights(net, arguments.weights)
    else:
        taught(net, data.train, eps)
    compare(net.eval(), (x, y), eps, arguments)


def compare(net, images, eps, arguments):
    x, y = images
    machine = describe(torch.device("cpu")).cpu
    print(f"{arguments.network}, {tuple(x.shape[1:])}, {arguments.mode} mode; {machine}, torch {torch.__version__}")
    heads = ("attack", "images", "left: pyautoattack", "ours", "differ", "s: pyautoattack", "ours", "ratio", "F each")
    print("| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", sep="\n")
    alive, totals = right(net, x, y), [0.0, 0.0]
    for attack in arguments.attacks:
        px, py, seconds = x[alive], y[alive], ([], [])
        if not len(px):
            break
        for _ in range(arguments.repeats):
            with contextlib.redirect_stdout(None):
                spent, x_reference, _ = timed(lambda: theirs(net, (px, py), eps, attack))  # noqa: B023 (called at once)
                seconds[0].append(spent)
                spent, x_adv, passes = timed(lambda: ours(net, (px, py), eps, attack, arguments.mode))  # noqa: B023
                seconds[1].append(spent)
        left, found = right(net, x_reference, py), right(net, x_adv, py)
        medians = [statistics.median(values) for values in seconds]
        ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
        totals = [total + median for total, median in zip(totals, medians, strict=True)]
        counts = (len(px), int(left.sum()), int(found.sum()), int((left != found).sum()))
        figures = (*(f"{value:.2f}" for value in (*medians, ratio)), f"{passes:.0f}")
        print("| " + " | ".join((attack, *map(str, counts), *figures)) + " |", flush=True)
        alive[alive.clone()] = left
    print(f"| all | | | | | {totals[0]:.2f} | {totals[1]:.2f} | {totals[0] / totals[1]:.2f} | |")


if __name__ == "__main__":
    main()
