"""Adapters that cheat: each is refused by the name of the rule it breaks, and its code is not run."""

import hashlib
import os
import py_compile
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.cli import main
from advbench.benchmark.evaluation import arena
from advbench.benchmark.review.adapter import contract, short_runs, source_rules, suite
from advbench.benchmark.review.finding import CheckError
from advbench.benchmark.runs.perform import identify

QUICK = Path(__file__).resolve().parents[2] / "docs/examples/quick.toml"
HONEST = '''
"""A defense."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advbench.benchmark.losses import ce_mean, ce_sum
from advbench.benchmark.method import Batch, Card, Method, OneNetwork, Step, Task
{imports}


@dataclass(frozen=True)
class Hostile(Method[OneNetwork]):
    """L = CE(z(x'), y)."""

    card = Card(
        name="hostile", label="Hostile", title="A", authors="B, C and D, E", venue="V", year=2025, url="https://example.org",
        key="b2025a", family="adversarial training", forwards=23,
    )

    def build(self, task: Task) -> OneNetwork:
        {build}
        return OneNetwork(task.network())

    def loss(self, nets: OneNetwork, batch: Batch, step: Step) -> Tensor:
        {loss}
        x_adv = step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))
        return ce_mean(nets.target(x_adv), batch.y)
    {more}
'''
PLAIN = {
    "reads the test set": ("reads-test-data", {"imports": "from advbench.benchmark.data.registry import load"}),
    "reads the test set behind the task": ("reads-test-data", {"build": "self_test = task.dataset.test"}),
    "reads the digits": ("reads-test-data", {"imports": "from sklearn.datasets import load_digits"}),
    "changes the optimiser": ("back-door-optimiser", {"loss": "step._optimiser.param_groups[0]['lr'] = 1.0"}),
    "brings its own optimiser": (
        "back-door-optimiser",
        {"loss": "torch.optim.Adam(nets.parameters()).step()"},
    ),
    "moves weights itself": ("back-door-optimiser", {"loss": "next(nets.parameters()).data.add_(1)"}),
    "trains more": ("back-door-optimiser", {"loss": "ce_mean(nets.target(batch.x), batch.y).backward()"}),
    "detects attacks": ("attack-detection", {"more": "def forward(self, x):\n        return x"}),
    "asks whether it is attacked": ("attack-detection", {"loss": "torch.is_grad_enabled()"}),
    "imports another method": ("imports-another-method", {"imports": "from advbench.methods.trades import TRADES"}),
    "imports it relatively": ("imports-another-method", {"imports": "from .trades import TRADES"}),
    "patches the evaluator": ("imports-the-house", {"imports": "from advbench.benchmark.evaluation import evaluator"}),
    "patches torch": ("monkey-patching", {"loss": "torch.nn.functional.relu = None"}),
    "patches a loss": ("monkey-patching", {"loss": "ce_mean.x = 1"}),
    "reads files": ("files-or-network", {"loss": "open('x')"}),
    "loads a checkpoint": ("files-or-network", {"build": "torch.load('x')"}),
    "reads the environment": ("imports-a-library", {"imports": "import os"}),
    "talks to the network": ("imports-a-library", {"imports": "import urllib.request"}),
    "reaches sys by a detour": ("introspection", {"imports": "import dataclasses as d\nM = d.sys"}),
    "imports sys by a detour": ("introspection", {"imports": "from typing import sys"}),
    "reaches torch by a detour": ("introspection", {"imports": "from advbench.benchmark.losses import torch as t"}),
    "hides behind getattr": ("introspection", {"loss": "getattr(step, '_opti' + 'miser')"}),
    "hides behind exec": ("introspection", {"build": "exec('1')"}),
    "climbs the class tree": ("introspection", {"build": "().__class__.__subclasses__()"}),
    "seeds": ("global-random-state", {"loss": "torch.manual_seed(0)"}),
    "changes precision": ("global-settings", {"build": "torch.backends.cudnn.allow_tf32 = True"}),
    "branches on the workload": ("protocol-identity", {"build": "x = 1 if task.num_classes == 10 else 2"}),
    "names the protocol": ("protocol-identity", {"build": "x = 'cifar10-linf'"}),
    "fetches more data": ("extra-data", {"build": "x = 'https://example.org/1m.npz'"}),
    "brings data as one literal": ("large-literal", {"imports": f"DATA = {'0' * 2001!r}"}),
    "brings data as many": ("large-literal", {"imports": f"DATA = {[0.5] * 300}"}),
    "brings data as a number": ("large-literal", {"imports": f"DATA = 0x{'f' * 2000}"}),
    "remembers in itself": ("introspection", {"loss": "object.__setattr__(self, 'x', 1)"}),
}


def write(tmp_path, **parts):
    filled = {"imports": "", "build": "pass", "loss": "pass", "more": "", **parts}
    text = textwrap.dedent(HONEST).lstrip().format(**filled)
    path = tmp_path / "hostile.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_honest_one_is_accepted(tmp_path, monkeypatch):
    """What the others are made of is itself without fault, or their refusal would mean nothing."""
    monkeypatch.setenv(discovery.VARIABLE, "")
    (report,) = suite.examine(suite.locate(str(write(tmp_path))), tooling=False)
    assert not report.failed
    assert not report.official
    assert discovery.OUTSIDE in discovery.load("hostile").card.notes


@pytest.mark.parametrize("crime", PLAIN)
def test_plain_crimes_are_refused_by_name_and_never_run(crime, tmp_path):
    rule, parts = PLAIN[crime]
    path = write(tmp_path, **parts)
    assert rule in {finding.rule for finding in source_rules.examine(path.read_bytes(), path.name)}
    (report,) = suite.examine(suite.Target(path), tooling=False)
    assert rule in {finding.rule for finding in report.failed}
    assert report.findings[-1].message == "not run: the source was refused, so none of it was run"
    assert str(path) not in {getattr(module, "__file__", None) for module in list(sys.modules.values())}


def hostile(tmp_path, monkeypatch, **parts):
    """Load an adapter without reading its source first, as if it had got past the rules."""
    path = write(tmp_path, **parts)
    monkeypatch.setenv(discovery.VARIABLE, str(path))
    return discovery.make("hostile")


HIDDEN = {
    "another step": (
        "only the optimiser moves weights",
        "moved by something else",
        {"more": "def after_step(self, nets, step):\n        for p in nets.parameters():\n            p.mul_(0.99)"},
    ),
    "steeper gradients": (
        "only the optimiser moves weights",
        "gradients are not those",
        {
            "more": "def update(self, nets, batch, step):\n        step.backward(self.loss(nets, batch, step))\n"
            "        [p.grad.mul_(3) for p in nets.parameters()]\n        step.advance()"
        },
    ),
    "another learning rate": (
        "only the optimiser moves weights",
        "settings were changed",
        {"loss": "step._optimiser.param_groups[0]['lr'] = 0.3"},
    ),
    "a seed": ("leaves the process alone", "random state", {"loss": "torch.manual_seed(0)"}),
    "a hook": (
        "deployed is one network of the protocol",
        "has hooks",
        {
            "more": "def deployed(self, nets):\n        nets.target.register_forward_hook(lambda m, i, o: o)\n"
            "        return nets.target"
        },
    ),
    "another forward": (
        "deployed is one network of the protocol",
        "another forward",
        {"more": "def deployed(self, nets):\n        nets.target.forward = lambda x: x\n        return nets.target"},
    ),
    "memory outside": (
        "state lives in the nets",
        "outside the nets",
        {"imports": "SEEN = []", "loss": "SEEN.append(1)"},
    ),
    "two crafts": (
        "inner budget",
        "input gradients an image of one network",
        {"loss": "step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))"},
    ),
    "a device of its own": (
        "neutral to device and dtype",
        "default device",
        {"loss": "batch = batch._replace(x=batch.x + torch.zeros(1))"},
    ),
}


@pytest.mark.parametrize("crime", HIDDEN)
def test_what_hides_from_the_rules_is_caught_by_what_it_does(crime, tmp_path, monkeypatch):
    check, output, parts = HIDDEN[crime]
    method = hostile(tmp_path, monkeypatch, **parts)
    with torch.random.fork_rng(devices=[]), pytest.raises(CheckError, match=output):
        contract.CHECKS[check](method)


ASCENT = "step.craft(batch.x, lambda x: ce_sum(nets.target(x), batch.y))"
HELD = {
    "crafts five times until nobody looks": (
        "takes 4 input gradients an image of one network, the protocol grants 2",
        {"loss": f"for _ in range(4 if step.progress < 0.9 else 0):\n            {ASCENT}"},
    ),
    "crafts by hand": (
        "takes 4 input gradients an image of one network, the protocol grants 2",
        {
            "loss": "x = batch.x.clone().requires_grad_()\n        for _ in range(2):\n"
            "            torch.autograd.grad(ce_sum(nets.target(x=x), batch.y), x)"
        },
    ),
    "crafts after the step": (
        "takes 4 input gradients an image of one network, the protocol grants 2",
        {
            "more": "def after_step(self, nets, step):\n        x = next(nets.parameters()).new_zeros(32, 1, 8, 8)\n"
            "        step.craft(x, lambda x: nets.target(x).sum())"
        },
    ),
    "crafts on a network that it does not declare": (
        "attacks 2 networks, the card declares attacks=1",
        {
            "more": "def build(self, task):\n        nets = OneNetwork(task.network())\n"
            "        nets.other = task.network()\n        return nets",
            "loss": ASCENT.replace("target", "other"),
        },
    ),
    "deploys another architecture": (
        r"the deployed network is no smallcnn, as evaluation builds it \(0\.bn1\.bias does not fit\)",
        {"more": "def build(self, task):\n        return OneNetwork(nn.Sequential(task.network()))"},
    ),
    "moves the default dtype": ("moves default dtype", {"loss": "torch.set_default_dtype(torch.float64)"}),
    "draws from torch's generator": ("random state: draw from step.generator", {"loss": "torch.rand(1)"}),
    "patches torch": (
        "replaces torch.nn.functional.relu",
        {"loss": "torch.nn.functional.relu = torch.nn.functional.gelu"},
    ),
    "overrides eval": (
        "overrides eval of target",
        {
            "more": "def build(self, task):\n        nets = OneNetwork(task.network())\n"
            "        nets.target.eval = lambda: nets.target\n        return nets"
        },
    ),
}


@pytest.mark.parametrize("crime", HELD)
def test_every_run_holds_an_adapter_to_its_budget_and_to_its_own(crime, tmp_path, monkeypatch):
    """In the first batch, or the first epoch for code that was replaced; what was moved is as it was before."""
    output, parts = HELD[crime]
    method = hostile(tmp_path, monkeypatch, **parts)
    monkeypatch.setattr(torch.nn.functional, "relu", torch.nn.functional.relu)  # restored afterwards
    with pytest.raises(RuntimeError, match=output) as refused:
        short_runs.run(method, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert torch.get_default_dtype() is torch.float32
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_replacing_the_evaluator_is_noticed_on_import(tmp_path, monkeypatch):
    monkeypatch.setenv(discovery.VARIABLE, "")
    monkeypatch.setattr(arena, "dispose", arena.dispose)  # restored afterwards
    patch = "from advbench.benchmark.evaluation import arena\narena.dispose = lambda proposal, x, eps: x"
    path = write(tmp_path, imports=patch)
    with pytest.raises(CheckError, match=r"importing it replaces advbench\.benchmark\.evaluation\.arena\.dispose"):
        suite.load(suite.Target(path))


def advbench(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


ENDS = {
    "at import": ({"imports": "raise SystemExit(0)"}, "import"),
    "in build": ({"build": "raise SystemExit(0)"}, "finite loss and moving parameters"),
    "in loss": ({"loss": "raise SystemExit(0)"}, "finite loss and moving parameters"),
}


@pytest.mark.parametrize("moment", ENDS)
def test_ending_the_process_with_success_is_a_failure(moment, tmp_path, monkeypatch):
    monkeypatch.setenv(discovery.VARIABLE, "")
    parts, check = ENDS[moment]
    path = write(tmp_path, **parts)
    (report,) = suite.examine(suite.Target(path), tooling=False)
    assert check in {finding.rule for finding in report.failed}
    assert all("SystemExit" in finding.message for finding in report.failed if finding.rule == check)
    done = advbench("train", "hostile", "--method", path, "--store", tmp_path / "runs", "--protocol", QUICK)
    assert done.exit_code == (2 if moment == "at import" else 1), done.output
    assert "SystemExit" in done.output
    assert "Traceback" not in done.output


def test_a_method_in_a_file_of_its_own_can_be_submitted(tmp_path, monkeypatch):
    monkeypatch.setenv(discovery.VARIABLE, "")
    path = write(tmp_path)
    place = ("--method", path, "--store", tmp_path / "runs")
    assert advbench("train", "hostile", *place, "--protocol", QUICK).exit_code == 0
    (kept,) = (tmp_path / "runs").glob("*/hostile-s0-*/adapter.py")
    assert kept.read_bytes() == path.read_bytes()
    assert "no method 'hostile'" not in advbench("submit", "hostile", *place, "--out", tmp_path / "x.zip").output
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.read("methods/hostile.py") == path.read_bytes()


def test_what_is_judged_is_what_runs_whatever_lies_beside_it_or_replaces_it(tmp_path, monkeypatch):
    """A compiled file with the date and size of the source runs in its place when Python imports; here it does not."""
    monkeypatch.setenv(discovery.VARIABLE, "")
    path = write(tmp_path)
    honest = path.read_bytes()
    path.write_bytes(honest.replace(b"B, C and D, E", b"X, Y and Z, W"))
    py_compile.compile(path, doraise=True)
    date = path.stat()
    path.write_bytes(honest)
    os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert discovery.source_text(path) == honest
    path.write_text("raise RuntimeError", encoding="utf-8")
    (method,) = suite.load(suite.Target(path))
    assert method.card.authors == "B, C and D, E"
    assert identify(method()).source_sha256 == hashlib.sha256(honest).hexdigest()
