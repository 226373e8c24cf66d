"""Time attacks and training against the field's code and write docs/performance.md: `make bench`.

    python tests/benchmarks/peers.py --out docs/performance.md

AutoAttack against pyautoattack in one batch and in batches of 32, the default of RobustBench's `benchmark()`; PGD
against foolbox and torchattacks; one epoch of PGD-AT and of TRADES against plain loops, written here as
robust_overfitting and TRADES have them. foolbox and torchattacks get a virtual environment of their own, which sees
this one's packages; where they cannot be installed their rows are left out. Runs alternate, one thread, CPU seconds,
medians.
"""

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from datetime import UTC, datetime
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from pyautoattack import AutoAttack
from torch import nn

from advbench.benchmark import discovery
from advbench.benchmark.data import registry
from advbench.benchmark.evaluation.arena import ThreatModel, entered
from advbench.benchmark.evaluation.evaluator import evaluate_shard
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models import architectures
from advbench.benchmark.protocol import resolve
from advbench.benchmark.runs.environment import describe
from advbench.benchmark.training.trainer import Run

FOOLBOX, TORCHATTACKS = "foolbox==3.3.4", "torchattacks==3.5.1"
PEERS = {"foolbox": FOOLBOX.replace("==", " "), "torchattacks": TORCHATTACKS.replace("==", " ")}
PROTOCOL = resolve("digits-linf/1")
THREATS = {8: ThreatModel("linf", Fraction(3, 20)), 32: ThreatModel("linf", Fraction(8, 255))}
EPOCHS = 6
STEPS = (20, 100)
TEXT = """# Performance

Made by `tests/benchmarks/peers.py`, which `make bench` runs with more images and repeats than the table may have
({when}); {cpu}, one thread, torch {torch}, load average {load:.1f} when it ended. CPU seconds,
medians of {repeats} run(s) that alternate with each other; a ratio is the median of the ratios of neighbouring runs:
how many times as long the others take. All attack the same images of the same networks: "8 px" is a SmallCNN trained
for {epochs} epochs with PGD-AT on digits, "32 px" one taught on digits enlarged to the size of CIFAR-10's images, in
three channels.

{table}

*left* is how many images are still classified correctly. An image at the edge falls under some random numbers and not
under others: exact mode has other ones than pyautoattack, which with another seed differs from itself, too. AutoAttack
costs what survives it: weak networks are cheap for everybody. A run that was cut short leaves the rows it had reached.

## Where the time goes

An image that survives costs 203 forward or input-gradient passes in APGD-CE, 1,827 in APGD-T, about 2,700 in FAB-T and
5,001 in Square Attack; pyautoattack's FAB-T adds 900 passes for gradients of weights that nobody reads. The engine
(`benchmark/attacks/autoattack/`) makes the same passes, but

- on a frozen copy of the network with batch norm folded into convolutions, channels last;
- with images and target classes in one queue (exact mode), so that batches stay full while images fall;
- FAB's projections by Newton steps on a piecewise linear function where the reference sorts;
- Square Attack computes again only what a query's square changes (the first layers, mostly; to the bit what whole
  images give), and asks nothing whose answer is known: a square that changes no pixel, or one refused since the image
  last changed. On 8×8 digits that is nine of ten queries.

Convolutions run near the processor's peak after that; what is left of the distance is theirs. *Reference mode* draws
pyautoattack's random numbers and leaves the same images; *exact mode* draws by image, so that neither shard, batch nor
order changes an outcome.

## When the exact mode may stand in for pyautoattack

`tests/benchmarks/autoattack_acceptance.py` compares the survivors of both, over at least eight checkpoints and three
seeds: on 1,000 images or more a mean difference of at most 0.05 points and no checkpoint more than 0.10 points weaker;
on fewer, where one image is worth more than that, a mean of at most half an image and none weaker by more than one,
beside how far pyautoattack with another seed is from itself.
"""


def interleaved(runs, repeats):
    """Return for each name the CPU seconds of its runs and the last result; the runs take turns."""
    seconds, results = {name: [] for name in runs}, {}
    for _ in range(repeats):
        for name, run in runs.items():
            results[name] = run()
            seconds[name].append(results[name][0])
    return seconds, {name: result[1] for name, result in results.items()}


def timed(run):
    started = time.process_time()
    with contextlib.redirect_stdout(None):
        result = run()
    return time.process_time() - started, result


class Subject:
    """A network, images and a radius."""

    def __init__(self, net, x, y, pixels):
        self.net, self.x, self.y, self.pixels = net.eval(), x, y, pixels
        self.threat = THREATS[pixels]
        self.eps = float(self.threat.eps)
        self.name = f"SmallCNN, {pixels} px, {len(x)} images"

    def left(self, x_adv):
        with torch.no_grad():
            return int(((self.net(x_adv).argmax(1) == self.y) & (self.net(self.x).argmax(1) == self.y)).sum())

    def reference(self, batch):
        self.net.requires_grad_(True)
        attack = AutoAttack(self.net, norm="Linf", eps=self.eps, seed=0, version="standard")
        attack.verbose = False
        return self.left(attack.run_standard_evaluation(self.x, self.y, batch_size=batch)[0])

    def engine(self, mode):
        attacks = dataclasses.replace(PROTOCOL.attacks, shard=len(self.x))
        protocol = dataclasses.replace(PROTOCOL, attacks=attacks)
        result = evaluate_shard(
            self.net,
            self.x,
            self.y,
            first=0,
            family="autoattack",
            protocol=protocol,
            seed=0,
            threat=self.threat,
            autoattack_by=mode,
        )
        return int(result.columns["autoattack"].sum())

    def pgd(self, steps):
        with entered(
            self.net, self.x, self.y, images=range(len(self.x)), protocol=PROTOCOL, threat=self.threat
        ) as arena:
            x_adv = arena.ascend(arena.start("pgd"), ce_sum, steps=steps, step=self.eps / 4)
            return int(arena.judge(x_adv).right.sum())


def rivals(subject, library, steps):
    """Run PGD of another library; this runs in the environment that has it."""
    if library == "foolbox":
        from foolbox import PyTorchModel
        from foolbox.attacks import LinfPGD

        attack = LinfPGD(abs_stepsize=subject.eps / 4, steps=steps, random_start=True)
        model = PyTorchModel(subject.net, bounds=(0, 1), device="cpu")
        return subject.left(attack(model, subject.x, subject.y, epsilons=subject.eps)[1])
    from torchattacks import PGD

    attack = PGD(subject.net, eps=subject.eps, alpha=subject.eps / 4, steps=steps, random_start=True)
    return subject.left(attack(subject.x, subject.y))


class Peers:
    """A process in the environment of foolbox and torchattacks that runs an attack when told to."""

    def __init__(self, subjects, folder):
        python = folder / "peers" / "bin" / "python"
        torch.save(subjects, folder / "subjects.pt")
        venv.create(folder / "peers", with_pip=True)
        paths = [*{sysconfig.get_path(kind) for kind in ("purelib", "platlib")}, *filter(None, sys.path)]
        site = next((folder / "peers" / "lib").glob("python*")) / "site-packages"
        site.joinpath("ours.pth").write_text("\n".join(paths))
        install = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, FOOLBOX], check=True)
        # It pins an old version of requests, which it does not need for an attack.
        subprocess.run([*install, "--no-deps", TORCHATTACKS], check=True)
        command = [python, __file__, "--serve", str(folder / "subjects.pt")]
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline().strip() != "ready":
            raise OSError("they do not start")

    def ask(self, which, library, steps):
        print(which, library, steps, file=self.process.stdin, flush=True)
        seconds, left = self.process.stdout.readline().split()
        return float(seconds), int(left)


def serve(path):
    torch.set_num_threads(1)
    subjects, out = torch.load(path, weights_only=False), sys.stdout
    for library in PEERS:
        importlib.import_module(library)
    print("ready", flush=True)
    for line in sys.stdin:
        which, library, steps = line.split()
        seconds, left = timed(lambda: rivals(subjects[int(which)], library, int(steps)))  # noqa: B023 (called at once)
        print(seconds, left, file=out, flush=True)


def ours_for_an_epoch(method, data, folder):
    folder.mkdir(exist_ok=True)
    run = Run(method, PROTOCOL, data, seed=0, folder=folder, device=torch.device("cpu"), teachers={})
    seconds, bad = timed(lambda: run.train_epoch(0, lambda _done, _total: None))
    assert bad is None
    return seconds, ""


def plain_epoch(step, data):
    """One epoch as the releases write it: NCHW, SGD, a fresh graph for each inner step."""
    torch.manual_seed(0)
    net = architectures.build(PROTOCOL.network, num_classes=10, channels=1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    batches = list(data.train.epoch(PROTOCOL.training.batch, torch.Generator().manual_seed(0)))

    def run():
        net.train()
        for x, y, _ in batches:
            loss = step(net, x.contiguous(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return timed(run)[0], ""


def robust_overfitting_step(net, x, y):
    """Crafted in train mode by full backward passes; a forward of the clean images that nothing uses."""
    eps, inner = float(PROTOCOL.threat.eps), PROTOCOL.training.inner
    delta = torch.zeros_like(x).uniform_(-eps, eps)
    delta = torch.clamp(delta, -x, 1 - x).requires_grad_()
    for _ in range(inner.steps):
        F.cross_entropy(net(torch.clamp(x + delta, 0, 1)), y).backward()
        stepped = torch.clamp(delta + float(inner.step) * delta.grad.sign(), -eps, eps)
        delta.data = torch.clamp(stepped, -x, 1 - x)
        delta.grad.zero_()
    loss = F.cross_entropy(net(torch.clamp(x + delta.detach(), 0, 1)), y)
    net(x)
    return loss


def trades_step(net, x, y):
    """Crafted in eval mode, the clean images asked anew at every inner step; three forwards in train mode."""
    eps, inner = float(PROTOCOL.threat.eps), PROTOCOL.training.inner
    divergence = nn.KLDivLoss(reduction="sum")
    net.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(inner.steps):
        x_adv.requires_grad_()
        value = divergence(F.log_softmax(net(x_adv), dim=1), F.softmax(net(x), dim=1))
        (gradient,) = torch.autograd.grad(value, [x_adv])
        x_adv = x_adv.detach() + float(inner.step) * gradient.sign()
        x_adv = torch.clamp(torch.min(torch.max(x_adv, x - eps), x + eps), 0, 1)
    net.train()
    natural = F.cross_entropy(net(x), y)
    robust = divergence(F.log_softmax(net(x_adv), dim=1), F.softmax(net(x), dim=1)) / len(x)
    return natural + 6.0 * robust


def trained(data, folder, epochs):
    training = dataclasses.replace(PROTOCOL.training, epochs=epochs)
    protocol = dataclasses.replace(PROTOCOL, training=training)
    folder.mkdir()
    method = discovery.make("pgd_at")
    run = Run(method, protocol, data, seed=0, folder=folder, device=torch.device("cpu"), teachers={})
    for epoch in range(epochs):
        run.train_epoch(epoch, lambda _done, _total: None)
    net = architectures.build(PROTOCOL.network, num_classes=10, channels=1)  # a copy without the ledger's hooks
    net.load_state_dict(method.deployed(run.nets).state_dict())
    return net


def taught(images, labels):
    """Return a SmallCNN for 32 px, taught for a moment on images with noise."""
    torch.manual_seed(0)
    net = architectures.build("smallcnn", num_classes=10, channels=3)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for part in [*torch.arange(len(images)).split(64)] * 3:
        x = images[part]
        noisy = (x + 0.1 * (2 * torch.rand_like(x) - 1).sign()).clamp(0, 1)
        optimizer.zero_grad()
        F.cross_entropy(net(noisy), labels[part]).backward()
        optimizer.step()
    return net


def subjects(data, folder, images):
    """Return the networks and images that are attacked, 8 and 32 px."""

    def wide(x):
        return F.interpolate(x, size=32).repeat(1, 3, 1, 1)

    small, large = images
    x, y = data.test.take(range(small))
    seen, labels = data.train.take(range(len(data.train)))
    net = taught(wide(seen), labels)
    return [Subject(trained(data, folder / "net", EPOCHS), x, y, 8), Subject(net, wide(x[:large]), y[:large], 32)]


def rows(what, ours, theirs, repeats):
    """Yield a line of the table for each pair of ours and theirs."""
    seconds, left = interleaved(ours | theirs, repeats)
    for name, other in itertools.product(ours, theirs):
        pairs = list(zip(seconds[name], seconds[other], strict=True))
        ratio = statistics.median(long / short for short, long in pairs)
        figures = (f"{statistics.median(values):.2f}" for values in zip(*pairs, strict=True))
        cells = (what, name, left[name], other, left[other], *figures, f"{ratio:.2f}")
        line = "| " + " | ".join(map(str, cells)) + " |"
        print(line, flush=True)
        yield line


def measured(arguments, folder):
    """Yield the lines of the table."""
    data = registry.load(PROTOCOL.data, device="cpu")
    attacked = subjects(data, folder, arguments.images)
    peers = None
    try:
        peers = Peers(attacked, folder)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"without foolbox and torchattacks: {error}", file=sys.stderr)
    for which, subject in enumerate(attacked):
        n, version = len(subject.x), metadata.version("pyautoattack")
        theirs = {
            f"pyautoattack {version}, one batch": lambda s=subject, n=n: timed(lambda: s.reference(n)),
            f"pyautoattack {version}, batches of 32": lambda s=subject: timed(lambda: s.reference(32)),
        }
        ours = {
            f"engine, {mode} mode": lambda s=subject, m=mode: timed(lambda: s.engine(m))
            for mode in ("reference", "exact")
        }
        yield from rows(f"AutoAttack, {subject.name}", ours, theirs, arguments.repeats)
        for steps in STEPS:
            ours, theirs = {"advbench": lambda s=subject, k=steps: timed(lambda: s.pgd(k))}, {}
            for library, version in PEERS.items() if peers else ():
                theirs[version] = lambda w=which, b=library, k=steps: peers.ask(w, b, k)
            yield from rows(f"PGD-{steps}, {subject.name}", ours, theirs, arguments.repeats)
    for name, step, like in (
        ("pgd_at", robust_overfitting_step, "robust_overfitting"),
        ("trades", trades_step, "TRADES"),
    ):
        ours = {"advbench": lambda m=name: ours_for_an_epoch(discovery.make(m), data, folder / m)}
        theirs = {f"plain loop as in {like}": lambda s=step: plain_epoch(s, data)}
        yield from rows(f"training, {name}, an epoch of digits", ours, theirs, arguments.repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the page goes; without it only the table is printed")
    parser.add_argument("--images", type=int, nargs=2, default=(64, 16), metavar=("8PX", "32PX"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    torch.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for line in measured(arguments, Path(folder)):
            lines.append(line)
            if arguments.out:  # at every line: what a run that is cut short has measured is kept
                write(arguments.out, lines, arguments.repeats)


def write(out, lines, repeats):
    heads = ("what", "ours", "left", "theirs", "left", "s: ours", "theirs", "ratio")
    table = "\n".join(["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *lines])
    facts = {"when": f"{datetime.now(UTC):%Y-%m-%d}", "cpu": describe().cpu, "torch": torch.__version__}
    facts |= {"load": os.getloadavg()[0], "repeats": repeats, "epochs": EPOCHS}
    out.write_text(TEXT.format(table=table, **facts), encoding="utf-8")


if __name__ == "__main__":
    main()
