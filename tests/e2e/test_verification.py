"""`verify`: adversarial examples against a record that claims too much, and the flags found again. On real digits."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.cli import main
from advbench.benchmark.data import registry
from advbench.benchmark.files import file_sha256
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models import architectures, weight_files
from advbench.benchmark.protocol import Protocol, published
from advbench.benchmark.records.schema import FAMILIES, Flag, Outcomes
from advbench.benchmark.review import counterexamples
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.perform import perform
from advbench.benchmark.runs.store import Store

pytestmark = pytest.mark.xdist_group("verification")
N = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Standard training on a few digits, its best network attacked in full: nothing is robust."""
    plain = published()["digits-linf/1"].canonical()
    plain |= {"name": "tiny/1", "seeds": [0]}
    plain["data"] |= {"train_limit": 640, "validation": 100, "test_limit": N}
    plain["training"] |= {"epochs": 3, "inner": {"steps": 2, "step": "1/10"}}
    plain["selection"] = {"steps": 2, "step": "1/10"}
    plain["attacks"] |= {"shard": 6}
    protocol = Protocol.from_plain(plain)
    spec = RunSpec(protocol, "standard", discovery.make("standard").hyperparameters(), 0)
    store = Store(tmp_path_factory.mktemp("store"))
    perform(Job("train", spec), store.root, device="cpu", threads=1)
    for family in FAMILIES:
        perform(Job("evaluate", spec, "best", family, (0, 1)), store.root, device="cpu", threads=1)
    return store, store.find(spec.id), protocol


@pytest.fixture(scope="module")
def network(run):
    _, folder, protocol = run
    net = architectures.build(protocol.network, num_classes=10, channels=1)
    return weight_files.load_weights(net, folder.weights("best")).eval()


@pytest.fixture(scope="module")
def images(run):
    x, y, _ = next(iter(registry.load(run[2].data).test.batches(N)))
    return x, y


@pytest.fixture(scope="module")
def found(run, network, images):
    """Examples of another attack on every test image: 40 steps from the clean image."""
    (x, y), eps = images, float(run[2].threat.eps)
    x_adv = Ball("linf", eps).ascend(x, x, lambda z: ce_sum(network(z), y), step=eps / 5, steps=40)
    return x_adv.numpy()


@pytest.fixture
def boast(run, tmp_path):
    """The record, claiming that every image which is right when clean is robust under every attack."""
    record = run[1].record()
    best = record.checkpoints["best"]
    clean = best.evaluation.columns["clean"].correct
    columns = {
        name: Outcomes.pack(clean, settings=old.settings, environment=old.environment)
        for name, old in best.evaluation.columns.items()
    }
    evaluation = best.evaluation.model_copy(update={"columns": columns})
    checkpoints = {"best": best.model_copy(update={"evaluation": evaluation})}
    path = tmp_path / "boast.json"
    path.write_text(record.model_copy(update={"checkpoints": checkpoints}).dumps(), encoding="utf-8")
    return path, clean


def advbench(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


def verify(run, record, *words, code=0):
    return advbench("verify", record, "--store", run[0].root, "--device", "cpu", *words, code=code)


def save(path, x_adv, index, **more):
    np.savez_compressed(path, x_adv=x_adv, index=np.asarray(index), **more)
    return path


def test_examples_that_fool_a_boasting_record_are_counted_and_listed(run, boast, found, network, tmp_path):
    path, clean = boast
    labels = registry.load(run[2].data).test.labels.numpy()
    index = [11, 3, 5, 0, 7]  # in any order
    file = save(tmp_path / "found.npz", found[index], index)
    with torch.no_grad():
        answers = network(torch.from_numpy(found[index])).argmax(1).tolist()
    wrong = {i for i, answer in zip(index, answers, strict=True) if answer != labels[i]}
    expected = sorted(i for i in wrong if clean[i])
    assert expected, "or this test shows nothing"
    output = verify(run, path, "--adversarial", file, "--out", tmp_path / "verdict.json", code=1)
    assert f"{len(expected)} of the {clean.sum()} images fall that the record counts as robust (every attack)" in output
    assert f"robust accuracy is at most {(clean.sum() - len(expected)) / N:.2%} (claimed {clean.mean():.2%})" in output
    plain = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert [one["index"] for one in plain["fallen"]] == expected
    assert all(one["margin"] > 0 and one["predicted"] != one["label"] for one in plain["fallen"])
    assert plain["robust_accuracy_upper_bound"] == pytest.approx((clean.sum() - len(expected)) / N)
    assert plain["record"] == run[1].id
    assert plain["file_sha256"] == file_sha256(file)


def test_a_true_record_stands(run, found, tmp_path):
    file = save(tmp_path / "found.npz", found, range(N), checkpoint="best")
    output = verify(run, run[1].id, "--adversarial", file)
    assert "0 of the 0 images fall" in output
    assert "stands: none of these examples fools it" in output


def test_clean_images_fool_nobody(run, boast, images, tmp_path):
    file = save(tmp_path / "clean.npz", images[0].numpy(), range(N))
    assert "0 of the" in verify(run, boast[0], "--adversarial", file)


def test_rounding_outside_of_the_ball_is_tolerated_and_no_more(run, boast, images, tmp_path):
    x, eps = images[0].numpy(), np.float32(run[2].threat.eps)
    edge = np.clip(x + eps, 0, 1).astype(np.float32)
    verify(run, boast[0], "--adversarial", save(tmp_path / "edge.npz", edge[:1], [0]), code=(0, 1)[_falls(run, edge)])
    over = np.where(x < 0.5, x + eps + np.float32(1e-5), x).astype(np.float32)
    output = verify(run, boast[0], "--adversarial", save(tmp_path / "over.npz", over, range(N)), code=2)
    assert f"{N} examples outside of the ball, the first of test image 0" in output
    assert "and 1.2e-07 is tolerated" in output


def _falls(run, x_adv):
    net = architectures.build(run[2].network, num_classes=10, channels=1)
    net = weight_files.load_weights(net, run[1].weights("best")).eval()
    label = registry.load(run[2].data).test.labels[0]
    with torch.no_grad():
        return bool(net(torch.from_numpy(x_adv[:1])).argmax() != label)


@pytest.mark.parametrize(
    ("make", "output"),
    [
        (lambda x: {"x_adv": x}, "holds x_adv; it must hold x_adv and index"),
        (lambda x: {"x_adv": x, "index": range(N), "more": x}, "holds index, more, x_adv"),
        (lambda x: {"x_adv": x.astype(np.float64), "index": range(N)}, "x_adv is float64 (12, 1, 8, 8)"),
        (lambda x: {"x_adv": x[:, :, :4], "index": range(N)}, "it must be float32 (n, 1, 8, 8)"),
        (lambda x: {"x_adv": x[:0], "index": np.arange(0)}, "n > 0"),
        (lambda x: {"x_adv": x, "index": range(3)}, "it must be integers (12,)"),
        (lambda x: {"x_adv": x, "index": np.arange(N) / 2}, "index is float64"),
        (lambda x: {"x_adv": x, "index": range(1, N + 1)}, "index spans 1 to 12, test images are 0 to 11"),
        (lambda x: {"x_adv": x, "index": [0, *range(N - 1)]}, "test image 0 is there 2 times, once is due"),
        (lambda x: {"x_adv": x + 0.9, "index": range(N)}, "clip them to [0,1]"),
        (lambda x: {"x_adv": np.where(x > 0.9, np.nan, x), "index": range(N)}, "its example is not finite"),
        (lambda x: {"x_adv": x, "index": range(N), "checkpoint": "final"}, "neither best nor last"),
        (lambda x: {"x_adv": x, "index": np.array([object()] * N)}, "not an .npz file of plain arrays"),
        (lambda x: {"x_adv": np.zeros((9000, 1, 8, 8), np.float32), "index": range(9000)}, "bytes unpacked"),
    ],
)
def test_what_cannot_be_judged_is_one_line(make, output, run, boast, tmp_path):
    x = next(iter(registry.load(run[2].data).test.batches(N)))[0].numpy()
    np.savez_compressed(tmp_path / "odd.npz", **{name: np.asarray(value) for name, value in make(x).items()})
    assert output in verify(run, boast[0], "--adversarial", tmp_path / "odd.npz", code=2)


def test_no_file_no_zip_and_two_checkpoints(run, boast, images, tmp_path):
    assert "no such file" in verify(run, boast[0], "--adversarial", tmp_path / "none.npz", code=2)
    (tmp_path / "text.npz").write_text("x", encoding="utf-8")
    assert "not an .npz file" in verify(run, boast[0], "--adversarial", tmp_path / "text.npz", code=2)
    file = save(tmp_path / "last.npz", images[0].numpy(), range(N), checkpoint="last")
    words = ("--adversarial", file)
    assert "the file is for last, --checkpoint says best" in verify(
        run, boast[0], *words, "--checkpoint", "best", code=2
    )
    assert "has no last checkpoint" in verify(run, boast[0], *words, code=2)
    assert "leave out --attack and --sample" in verify(run, boast[0], *words, "--attack", "pgd", code=2)


def test_without_autoattack_no_image_counts_as_robust(run):
    evaluation = run[1].record().checkpoints["best"].evaluation
    columns = {name: one for name, one in evaluation.columns.items() if name != "autoattack"}
    with pytest.raises(counterexamples.EvidenceError, match="no AutoAttack"):
        counterexamples.claims(evaluation.model_copy(update={"columns": columns}))
    del columns["cw"]
    columns["autoattack"] = evaluation.columns["autoattack"]
    assert counterexamples.claims(evaluation.model_copy(update={"columns": columns}))[0] == "autoattack"


def test_the_examination_is_repeated_and_a_cleared_flag_is_found(run, tmp_path):
    output = verify(run, run[1].id, "--checkpoint", "best", "--attack", "examination", "--out", tmp_path / "f.json")
    assert "equal to the bit" in output
    plain = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    record = run[1].record()
    flags = record.checkpoints["best"].evaluation.flags
    assert {one["flag"] for one in plain} == {flag.name for flag in flags if flag.state != "not run"}
    assert len(plain) > 10
    turned = [
        Flag(**{**flag.model_dump(), "state": "raised"}) if flag.name == "zero-gradients" else flag for flag in flags
    ]
    best = record.checkpoints["best"]
    evaluation = best.evaluation.model_copy(update={"flags": tuple(turned)})
    path = tmp_path / "turned.json"
    checkpoints = {"best": best.model_copy(update={"evaluation": evaluation})}
    path.write_text(record.model_copy(update={"checkpoints": checkpoints}).dumps(), encoding="utf-8")
    output = verify(run, path, "--attack", "examination", code=1)
    assert "is NOT what comes out: best flag zero-gradients" in output
    output = verify(run, path, "--attack", "examination", "--sample", "3", code=2)
    assert "flags are judged on the whole test set" in output
