"""Runs on the hub: what is pushed, what its card says, and that what is pulled is what the record names."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import ModelCard

from advbench import evaluate, load_model, train
from advbench.benchmark.cli import main
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.runs import hub

pytestmark = pytest.mark.xdist_group("api")
REPOSITORY = "someone/standard-digits"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(store):
    plain = Protocol.from_toml(Path(__file__).parents[2] / "docs/examples/quick.toml").canonical()
    plain["training"]["epochs"] = 1
    plain["data"] |= {"test_limit": 12, "train_limit": 128}
    run = train("standard", Protocol.from_plain(plain, "hub"), store=store, device="cpu")
    evaluate(run, attacks=["clean"], store=store, device="cpu")
    return run


class StandIn:
    """The two calls of the hub's API, on a cache as `snapshot_download` finds it without a network."""

    cache: Path

    def create_repo(self, repository, *, private, exist_ok):
        assert exist_ok
        return f"https://hub.example/{repository}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        place = self.cache / f"models--{repo_id.replace('/', '--')}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder_path, place / "snapshots" / ("0" * 40))
        (place / "refs").mkdir()
        (place / "refs/main").write_text("0" * 40, encoding="utf-8")


@pytest.fixture
def pushed(run, store, tmp_path, monkeypatch) -> Path:
    """The repository's files after `advbench push`."""
    monkeypatch.setattr(StandIn, "cache", tmp_path, raising=False)
    monkeypatch.setattr(hub, "HfApi", StandIn)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    done = CliRunner().invoke(main, ["push", run.id[:8], REPOSITORY, "--store", str(store)])
    assert done.exit_code == 0, done.output
    assert done.output == f"pushed to https://hub.example/{REPOSITORY}\n"
    return next((tmp_path / "models--someone--standard-digits/snapshots").iterdir())


def test_a_pushed_run_has_its_record_its_networks_and_a_card(pushed, run):
    names = {path.name for path in pushed.iterdir()}
    assert names == {"README.md", "record.json", "best.safetensors", "last.safetensors"}
    card = ModelCard.load(pushed / "README.md")
    clean = run.record().checkpoints["best"].evaluation.accuracy("clean")
    figures = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert figures["Clean accuracy (best, %)"] == pytest.approx(100 * clean, abs=0.005)
    assert f"| best | Clean | {100 * clean:.2f} |" in card.content
    assert f'load_model("{REPOSITORY}")' in card.content


def test_what_is_pulled_is_what_was_pushed(pushed, run, store, tmp_path):
    x = torch.rand(3, 1, 8, 8)
    ours = load_model(run, store=store, device="cpu")
    assert torch.equal(load_model(REPOSITORY, device="cpu")(x), ours(x))
    done = CliRunner().invoke(main, ["pull", REPOSITORY, "--out", str(tmp_path / "theirs")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "theirs/record.json").read_bytes() == run.record_path.read_bytes()


def test_other_weights_and_other_repositories_are_refused(pushed):
    with pytest.raises(hub.HubError, match=r"^someone/nothing: "):
        hub.pull("someone/nothing")
    with pytest.raises(hub.HubError, match="has no first checkpoint"):
        load_model(REPOSITORY, checkpoint="first", device="cpu")
    shutil.copy(pushed / "README.md", pushed / "best.safetensors")
    with pytest.raises(hub.HubError, match="is not the network that the record names"):
        hub.pull(REPOSITORY)
