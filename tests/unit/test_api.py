"""advbench from Python: train, attack, open and show in a few lines; importing it loads next to nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
import torch
from torch import nn

import advbench
from advbench import evaluate, load_board, load_model, methods, protocols, train
from advbench.benchmark.method import Method
from advbench.benchmark.protocol import Protocol, ProtocolError
from advbench.leaderboards.table import BoardError

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    quick = Protocol.from_toml(Path(__file__).parents[2] / "docs/examples/quick.toml")
    plain = quick.canonical()
    plain["name"] = "api"
    plain["attacks"]["shard"] = 6
    plain["training"]["epochs"] = 1
    plain["data"] |= {"test_limit": 12, "train_limit": 128}
    return Protocol.from_plain(plain, "api")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(protocol, store):
    return train("standard", protocol, store=store, device="cpu")


def test_a_run_is_trained_once_and_attacked_once(run, protocol, store):
    written = (run.path / "best.safetensors").stat().st_mtime_ns
    assert train("standard", protocol, store=store, device="cpu").path == run.path
    assert (run.path / "best.safetensors").stat().st_mtime_ns == written
    found = evaluate(run, attacks=["clean", "pgd"], store=store, device="cpu")
    assert set(found.columns) == {"clean", "pgd20", "pgd100"}
    journal = (run.path / "evaluation/best/pgd.jsonl").read_bytes()
    assert evaluate(run.id[:8], attacks=["pgd"], store=store, device="cpu") == found
    assert (run.path / "evaluation/best/pgd.jsonl").read_bytes() == journal


def test_a_network_is_opened_and_attacked_as_one_of_ones_own(run, protocol, store):
    network = load_model(run.id[:8], store=store, device="cpu")
    assert not network.training
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    own = evaluate(network, protocol, attacks=["pgd"], images=6, device="cpu")
    assert own.columns["pgd20"].n == 6
    ours = evaluate(run, attacks=["pgd"], store=store, device="cpu").columns["pgd20"]
    assert own.columns["pgd20"].correct.tolist() == ours.correct[:6].tolist()


def test_what_does_not_fit_is_refused_in_a_line(run, protocol, store):
    with pytest.raises(ValueError, match="needs a protocol"):
        evaluate(nn.Flatten())
    with pytest.raises(ValueError, match="for networks that are no run"):
        evaluate(run, protocol, store=store)
    with pytest.raises(ValueError, match="did you mean trades"):
        train("trade", protocol, store=store)
    with pytest.raises(ValueError, match="has no newest checkpoint"):
        evaluate(run, checkpoint="newest", store=store)


def test_a_board_of_the_published_records_of_a_folder_and_of_a_store(run, protocol, store):
    board = load_board("digits-linf-full")
    assert board.protocol.startswith("digits-linf-full/")
    assert len(board.rows) > 20
    assert load_board(protocol, store=store).rows[0].label == "Standard"
    with pytest.raises(BoardError, match="no records of cifar10-linf/2; there are records of: digits"):
        load_board("cifar10-linf")
    with pytest.raises(ProtocolError, match="did you mean"):
        load_board("digits-lin")


def test_a_board_shows_itself_in_a_notebook(protocol):
    shown = load_board("digits-linf-full").select(columns=["rank", "method", "autoattack"])._repr_html_()
    assert shown.count("<tr>") == 1 + len(load_board("digits-linf-full").rows)
    assert "<script" not in shown


def test_the_examples_of_the_documentation_run(run, protocol, store, monkeypatch, tmp_path):
    monkeypatch.setenv("ADVBENCH_STORE", str(store))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.toml").write_text(tomli_w.dumps(protocol.canonical()), encoding="utf-8")
    text = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8").replace('"pgd_at"', '"standard"')
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    names: dict = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 (what a reader does)
    assert names["run"].path == run.path


def test_methods_and_protocols_have_the_same_words():
    assert "trades" in methods.names()
    assert issubclass(methods.load("trades"), Method)
    assert methods.make("trades", {"beta": 3}).beta == 3.0
    assert "cifar10-linf/2" in protocols.names()
    assert protocols.load("cifar10-linf").name == "cifar10-linf/2"


def test_importing_it_is_cheap_and_a_board_needs_no_torch():
    program = """
import sys, advbench
assert advbench.__version__
assert not {"torch", "numpy", "pydantic", "click"} & sys.modules.keys(), "advbench loads what it does not need"
from advbench import load_board, protocols
load_board("digits-linf-full")._repr_html_()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in advbench.__all__
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = advbench.tarin
