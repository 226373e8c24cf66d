"""Export to RobustBench: claim, checkpoint and zoo entry, read back by RobustBench's own loader."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.cli import main
from advbench.benchmark.files import file_sha256
from advbench.benchmark.models import architectures, robustbench, robustbench_export, robustbench_reload, weight_files
from advbench.benchmark.protocol import published
from advbench.benchmark.records.schema import Checkpoint, Evaluation, Flag, Outcomes, Record

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "leaderboards/records/digits-linf-1/trades/seed0.json"
needs_robustbench = pytest.mark.skipif(
    importlib.util.find_spec("robustbench") is None, reason="robustbench is not installed"
)
FLAG = Flag(name="autoattack-far-below-pgd", kind="masking", state="raised", reason="0.4")


def outcomes(right, n=10_000):
    return Outcomes.pack(np.arange(n) < right)


def row(protocol="cifar10-linf/1", *, n=10_000, clean=8213, robust=4807, flags=(), sha256="0" * 64, **changes):
    """A published record, as if it had been made under another protocol, with as many images right as said."""
    plain = published()[protocol]
    evaluation = Evaluation(columns={"clean": outcomes(clean, n), "autoattack": outcomes(robust, n)}, flags=flags)
    record = Record.load(TEMPLATE)
    name = published()[protocol].data.name
    classes = {"cifar100": 100, "imagenet": 1000}.get(name, 10)
    facts = {"name": name, "test": n, "num_classes": classes, "verified": True}
    return record.model_copy(
        update={
            "protocol": plain,
            "protocol_name": protocol,
            "protocol_digest": published()[protocol].digest,
            "network": plain.network,
            "data": record.data.model_copy(update=facts),
            "checkpoints": {"best": Checkpoint(epoch=1, sha256=sha256, evaluation=evaluation)},
            **changes,
        }
    )


def network(architecture, classes=10):
    """A network whose buffers have moved, with fixed weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = architectures.build(architecture, num_classes=classes, channels=3)
        net.train()
        with torch.no_grad():
            net(torch.rand(8, 3, 32, 32))
    return net.eval()


def test_the_claim_has_the_keys_and_strings_of_their_files():
    info = robustbench_export.model_info(row(), "best")
    assert info.pop("footnote").startswith("TRADES, trained and attacked with advbench under its protocol cifar10-linf")
    assert info == {
        "link": "https://proceedings.mlr.press/v97/zhang19p.html",
        "name": "Theoretically Principled Trade-off between Robustness and Accuracy",
        "authors": "Hongyang Zhang, Yaodong Yu, Jiantao Jiao, Eric Xing, Laurent El Ghaoui, Michael Jordan",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "venue": "ICML 2019",
        "architecture": "PreActResNet-18",
        "eps": "8/255",
        "clean_acc": "82.13",
        "reported": "48.07",
        "autoattack_acc": "48.07",
        "unreliable": False,
    }


@needs_robustbench
def test_their_dataclass_knows_every_key_of_the_claim():
    known = robustbench.robustbench("utils").ModelInfo.__dataclass_fields__
    newer = {"unreliable"}  # in their files, not in the release's dataclass
    assert set(robustbench_export.model_info(row(), "best")) - newer <= set(known)


def test_every_method_of_the_repository_gets_a_name_by_their_habit():
    names = {}
    for name in discovery.names():
        card = discovery.load(name).card
        facts = {"title": card.title, "authors": card.authors, "year": card.year}
        record = row()
        record = record.model_copy(update={"method": record.method.model_copy(update=facts)})
        names[name] = robustbench_export.zoo_name(record)
        assert robustbench_export.authors(card.authors).count(",") == card.authors.count(" and "), card.authors
    assert names["trades"] == "Zhang2019Theoretically_PRN18"
    assert names["at_awp"] == "Wu2020Adversarial_PRN18"
    assert names["fgsm_rs"] == "Wong2020Fast_PRN18"
    assert all(one.isascii() for one in names.values())


@needs_robustbench
@pytest.mark.parametrize(
    ("architecture", "protocol", "classes"),
    [
        ("preactresnet18", "cifar10-linf/1", 10),
        ("preactresnet18", "cifar100-linf/1", 100),
        ("resnet18", "cifar10-linf/1", 10),
        ("preactresnet18-swish", "cifar10-linf/1", 10),
        ("smallcnn", "cifar10-linf/1", 10),
    ],
)
def test_robustbench_loads_what_was_exported_with_the_same_predictions(architecture, protocol, classes, tmp_path):
    net = network(architecture, classes)
    exported = robustbench_export.export(row(protocol, network=architecture), "best", net, tmp_path)
    found = robustbench_reload.compare(exported, net)
    assert found.same == found.images == 16
    assert found.difference <= (0 if architecture == "smallcnn" else 1e-6)  # they average pixels by another routine
    exported.weights.unlink()
    torch.save({**net.state_dict(), "more": torch.zeros(1)}, exported.weights)
    with pytest.raises(robustbench_export.ExportError, match="RobustBench cannot load it"):
        robustbench_reload.compare(exported, net)
    tables = robustbench.robustbench("utils").all_models
    assert not any(exported.name in models for every in tables.values() for models in every.values())


@needs_robustbench
def test_other_weights_are_noticed(tmp_path):
    exported = robustbench_export.export(row(), "best", network("preactresnet18"), tmp_path)
    other = network("preactresnet18")
    with torch.no_grad():
        other.linear.bias += torch.arange(10)
    assert robustbench_reload.compare(exported, other).same < 16


def test_the_other_architectures_have_entries_that_are_python():
    others = [("resnet50", "imagenet-linf/1")]
    others += [(name, "cifar10-linf-wrn/1") for name in robustbench_export.ARCHITECTURES if name.startswith("wrn")]
    for architecture, protocol in others:
        text = robustbench_export.zoo_entry(row(protocol, network=architecture), "Any2020Name", "0" * 64)
        compile(text, "entry", "exec")
        assert ("Res256Crop224" in text) == (architecture == "resnet50")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (row("digits-linf/1", n=100), "RobustBench has cifar10, cifar100, imagenet; digits cannot be exported"),
        (row("tinyimagenet-linf/1"), "tinyimagenet cannot be exported"),
        (row(checkpoints={}), "no best checkpoint"),
        (row(network="vgg"), "no zoo entry for vgg"),
    ],
)
def test_what_cannot_be_exported_is_refused_even_by_force(record, said):
    with pytest.raises(robustbench_export.ExportError, match=said):
        robustbench_export.admit(record, "best", force=True)


def test_a_missing_attack_is_not_made_up():
    record = row()
    columns = {"clean": outcomes(5)}
    best = record.checkpoints["best"].model_copy(update={"evaluation": Evaluation(columns=columns)})
    with pytest.raises(robustbench_export.ExportError, match="autoattack of best was not measured"):
        robustbench_export.model_info(record.model_copy(update={"checkpoints": {"best": best}}), "best")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (row(flags=(FLAG,)), "flag autoattack-far-below-pgd"),
        (row("imagenet-linf/1", n=50_000), "eps 2/255, the leaderboard is of 4/255"),
        (row(n=1000, clean=800, robust=400), "attacked on 1000 test images, there are 10000"),
        (row(official=False), "not a published one"),
        (row(division="open"), "open division"),
        (row(data=row().data.model_copy(update={"verified": False})), "no known checksums"),
    ],
)
def test_what_the_board_would_not_rank_is_forced_with_a_footnote(record, said):
    with pytest.raises(robustbench_export.ExportError, match=f"{said}.*--force") as refused:
        robustbench_export.admit(record, "best")
    assert "\n" not in str(refused.value)
    against = robustbench_export.admit(record, "best", force=True)
    info = robustbench_export.model_info(record, "best", against=against)
    assert said in str(info["footnote"])
    assert info["unreliable"] == ("flag" in said)


def advbench(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


@needs_robustbench
def test_the_command_exports_a_record_and_the_checkpoint_that_it_names(tmp_path):
    net = network("smallcnn")
    weight_files.save_weights(net, tmp_path / "best.safetensors")
    digest = file_sha256(tmp_path / "best.safetensors")
    record = tmp_path / "record.json"
    record.write_text(row(n=1000, clean=813, robust=402, network="smallcnn", sha256=digest).dumps(), encoding="utf-8")
    out = tmp_path / "out"
    words = ("export", "robustbench", record, "--out", out, "--store", tmp_path / "runs")
    assert "--force exports it" in advbench(*words, code=2)
    assert not out.exists()
    said = advbench(*words, "--force", "--name", "Tiny2026Run", "--additional-data")
    assert "the same classes on 16 images, logits equal to the bit" in said
    assert "footnote: attacked on 1000 test images, there are 10000" in said
    info = json.loads((out / "model_info/cifar10/Linf/Tiny2026Run.json").read_text(encoding="utf-8"))
    assert (info["clean_acc"], info["autoattack_acc"]) == ("81.30", "40.20")
    assert info["additional_data"] is True
    weights = torch.load(out / "models/cifar10/Linf/Tiny2026Run.pt", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    taken = advbench(*words, "--force", "--name", "Wong2020Fast", code=2)
    assert "RobustBench has a model named Wong2020Fast" in taken
    assert "cannot name a model" in advbench(*words, "--force", "--name", "../x", code=2)
    weight_files.save_weights(network("preactresnet18"), tmp_path / "best.safetensors")
    assert "not the weights of best" in advbench(*words, "--force", code=2)


def test_without_robustbench_the_files_are_written_and_it_is_said(tmp_path, monkeypatch):
    net = network("smallcnn")
    weight_files.save_weights(net, tmp_path / "w.safetensors")
    record = tmp_path / "record.json"
    digest = file_sha256(tmp_path / "w.safetensors")
    record.write_text(row(network="smallcnn", sha256=digest).dumps(), encoding="utf-8")

    def missing(_part="eval"):
        raise robustbench.BridgeError("robustbench is not installed: pip install")

    monkeypatch.setattr(robustbench, "robustbench", missing)
    words = ("--weights", tmp_path / "w.safetensors", "--out", tmp_path / "out")
    said = advbench("export", "robustbench", record, *words)
    assert "not loaded with RobustBench: robustbench is not installed" in said
    assert len(list((tmp_path / "out").rglob("*.*"))) == 3


def test_a_published_record_of_digits_is_one_line():
    assert "digits cannot be exported" in advbench("export", "robustbench", TEMPLATE, "--force", code=2)
