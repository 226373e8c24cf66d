"""Sources in memory: the official layout of CIFAR, .npz files, where they are looked for, and every refusal."""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from advbench.benchmark import torchvision_import
from advbench.benchmark.data import registry, sources
from advbench.benchmark.data.sources import DataError
from advbench.benchmark.protocol import Data

RNG = np.random.default_rng(0)


def made_up(**changes):
    """Arrays of a CIFAR-10 of 40 + 20 images."""
    arrays = {
        "x_train": RNG.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(40) % 10,
        "x_test": RNG.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
        "y_test": np.arange(20) % 10,
    }
    arrays.update(changes)
    return {key: value for key, value in arrays.items() if value is not None}


def load(root, name="cifar10", **changes):
    return registry.load(Data(**{"name": name, "validation": 10, **changes}), root=root, download=False)


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A made-up CIFAR-10 in torchvision's layout, whose checksums stand in for the official ones."""
    cifar10 = torchvision_import.module("torchvision.datasets").CIFAR10
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(file, plain):
        content = pickle.dumps(plain, protocol=2)
        (folder / file).write_bytes(content)
        return [file, hashlib.md5(content, usedforsecurity=False).hexdigest()]

    def batch(seed, count):
        rows = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
        return {"data": rows, "labels": [i % 10 for i in range(count)]}

    monkeypatch.setattr(cifar10, "train_list", [write(f"data_batch_{i}", batch(i, 20)) for i in (1, 2)])
    monkeypatch.setattr(cifar10, "test_list", [write("test_batch", batch(3, 20))])
    file, md5 = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(cifar10, "meta", {"filename": file, "key": "label_names", "md5": md5})
    return tmp_path


def test_the_official_layout_is_read_and_verified(official):
    dataset = load(official)
    assert dataset.provenance.verified
    assert dataset.provenance.source == "official files (cifar-10-batches-py)"
    assert dataset.classes[3] == "class 3"
    assert (dataset.shape, len(dataset.train), len(dataset.test)) == ((3, 32, 32), 30, 20)
    rows = np.random.default_rng(3).integers(0, 256, (20, 3072), dtype=np.uint8)
    x, y, _ = next(dataset.test.batches(20))
    np.testing.assert_array_equal((x.numpy() * 255).round(), rows.reshape(20, 3, 32, 32))
    assert y.tolist() == [i % 10 for i in range(20)]


def test_the_digest_is_that_of_sha256sum(official):
    folder = official / "cifar-10-batches-py"
    files = sorted(path.name for path in folder.iterdir())
    said = "".join(f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()}  {file}\n" for file in files)
    assert load(official).provenance.digest == hashlib.sha256(said.encode()).hexdigest()


def test_the_official_layout_comes_before_an_npz(official):
    np.savez(official / "cifar10.npz", **made_up())
    assert load(official).provenance.verified


@pytest.mark.parametrize("file", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_changed_file_is_refused_by_name(official, file):
    path = official / "cifar-10-batches-py" / file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    np.savez(official / "cifar10.npz", **made_up())  # no way out: a broken layout is not passed over
    with pytest.raises(DataError, match=f"{file}: not the official file .* remove .* to download it again") as caught:
        load(official)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_by_name(official):
    (official / "cifar-10-batches-py" / "data_batch_1").unlink()
    with pytest.raises(DataError, match=r"data_batch_1: missing: remove"):
        load(official)


def test_no_code_runs_from_a_pickle(tmp_path):
    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return Path.touch, (witness,)

    with pytest.raises(DataError, match="not allowed"):
        sources.unpickle(pickle.dumps({"data": Evil()}), "data_batch_1")
    with pytest.raises(DataError, match=r"os.system|posix.system|nt.system"):
        sources.unpickle(pickle.dumps(os.system), "data_batch_1")
    assert not witness.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02}", b"garbage", pickle.dumps([1, 2])])
def test_a_torn_pickle_is_one_line(content):
    with pytest.raises(DataError, match="data_batch_1: not a readable CIFAR file") as caught:
        sources.unpickle(content, "data_batch_1")
    assert "\n" not in str(caught.value)


def test_an_npz_is_unverified_data_with_its_digest(tmp_path):
    exact = np.zeros(40, dtype=bool)
    exact[:7] = True
    further = {"train_exact": np.resize(exact, 80), "made": np.array("by hand"), "gap": np.array([1, 2])}
    np.savez_compressed(tmp_path / "cifar10.npz", **made_up(), **further)
    dataset = load(tmp_path, train_limit=20)
    provenance = dataset.provenance
    assert not provenance.verified
    assert provenance.source == "cifar10.npz"
    assert provenance.digest == hashlib.sha256((tmp_path / "cifar10.npz").read_bytes()).hexdigest()
    assert provenance.notes == ("unverified data: cifar10.npz", "subset: 20 of 30 training images")
    assert provenance.extra["made"] == "by hand"
    assert provenance.extra["gap"] == [1, 2]
    kept = provenance.extra["train_exact"]
    assert (kept["dtype"], kept["shape"], kept["true"]) == ("bool", [80], 14)
    assert kept["sha256"] == hashlib.sha256(further["train_exact"].tobytes()).hexdigest()
    provenance.model_validate_json(provenance.model_dump_json())


def test_an_npz_gives_its_own_images(tmp_path):
    arrays = made_up()
    np.savez(tmp_path / "cifar10.npz", **arrays)
    dataset = load(tmp_path)
    x, y, _ = next(dataset.test.batches(20))
    np.testing.assert_array_equal((x.numpy() * 255).round().astype(np.uint8).transpose(0, 2, 3, 1), arrays["x_test"])
    np.testing.assert_array_equal(y.numpy(), arrays["y_test"])


def test_labels_may_be_a_column(tmp_path):
    np.savez(tmp_path / "cifar10.npz", **made_up(y_train=(np.arange(40) % 10)[:, None]))
    assert load(tmp_path).train.labels.shape == (30,)


def test_a_set_of_the_user_needs_no_registration(tmp_path):
    grey = {key: RNG.integers(0, 256, (30, 28, 28, 1), dtype=np.uint8) for key in ("x_train", "x_test")}
    labels = {key: np.arange(30) % 4 for key in ("y_train", "y_test")}
    np.savez(tmp_path / "mnist-4.npz", **grey, **labels)
    dataset = load(tmp_path, "mnist-4")
    assert (dataset.shape, dataset.num_classes) == ((1, 28, 28), 4)
    assert not dataset.provenance.verified


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_test": None}, "no y_test: it needs"),
        ({"x_train": np.zeros((40, 32, 32, 3), np.float32)}, "x_train must be uint8 .* not float32"),
        ({"x_train": np.zeros((40, 32, 32), np.uint8)}, r"x_train must be .* with shape \(40, 32, 32\)"),
        ({"x_train": np.zeros((40, 3, 32, 32), np.uint8)}, "differ in shape"),
        (
            {"x_train": np.zeros((40, 28, 28, 3), np.uint8), "x_test": np.zeros((20, 28, 28, 3), np.uint8)},
            "N×28×28×3, cifar10 is N×32×32×3",
        ),
        ({"y_train": np.arange(39) % 10}, "y_train must be 40 integers"),
        ({"y_train": np.arange(40) % 10 / 1.0}, "y_train must be 40 integers, not float64"),
        ({"y_train": np.arange(40) % 11}, "y_train: label 10 of image 10 is out of range: labels are 0 … 9"),
        ({"y_test": np.arange(20) % 10 - 1}, "y_test: label -1 of image 0 is out of range"),
        ({"y_train": np.arange(40) % 9}, "class 9 of 10 has no image"),
        ({"note": np.array([{"a": 1}], dtype=object)}, "not a readable .npz of plain arrays"),
    ],
)
def test_a_broken_npz_is_refused_by_key(tmp_path, changes, said):
    np.savez(tmp_path / "cifar10.npz", **made_up(**changes))
    with pytest.raises(DataError, match=said) as caught:
        load(tmp_path)
    assert str(tmp_path / "cifar10.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_something_else_under_the_name_is_refused(tmp_path):
    (tmp_path / "cifar10.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"not an \.npz"):
        load(tmp_path)


def test_doubtful_data_are_noted(tmp_path):
    arrays = made_up()
    shared = {**arrays, "x_test": arrays["x_train"][:20].copy()}
    dark = {key: array // 16 if key.startswith("x_") else array for key, array in arrays.items()}
    for given, note in ((shared, "20 of 20 test images are training images"), (dark, "no pixel is above 15 of 255")):
        np.savez(tmp_path / "cifar10.npz", **given)
        assert any(note in each for each in load(tmp_path).provenance.notes)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    np.savez(tmp_path / "cifar10.npz", **made_up())
    with zipfile.ZipFile(tmp_path / "cifar10.npz", "a") as archive:
        archive.writestr("readme", "text")
    with pytest.raises(DataError, match="'readme' is no array"):
        load(tmp_path)


def test_a_torn_npz_is_refused(tmp_path):
    path = tmp_path / "cifar10.npz"
    np.savez(path, **made_up())
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar10", r"put cifar-10-python.tar.gz, its folder cifar-10-batches-py, or cifar10.npz \(x_train"),
        ("tinyimagenet", r"put tiny-imagenet-200.zip, its folder tiny-imagenet-200, or tinyimagenet.npz"),
        ("svhn", r"put svhn.npz .*known sets: digits, cifar10"),
        ("imagenet", "train/<wnid>"),
    ],
)
def test_no_data_is_one_line_that_says_what_to_put_where(tmp_path, name, said):
    augment = "resized-crop-flip" if name == "imagenet" else "crop-flip"
    with pytest.raises(DataError, match=said) as caught:
        load(tmp_path, name, augment=augment)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../cifar10", "", "a b", "Ä"])
def test_a_name_is_no_path(tmp_path, name):
    with pytest.raises(DataError, match="a name has lower-case letters"):
        load(tmp_path, name)


def test_where_data_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVBENCH_DATA", str(tmp_path / "chosen"))
    assert registry.data_root(tmp_path) == tmp_path
    assert registry.data_root() == tmp_path / "chosen"
    monkeypatch.delenv("ADVBENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert registry.data_root() == tmp_path / "cache" / "advbench" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert registry.data_root() == tmp_path / ".cache" / "advbench" / "data"


def test_availability_of_an_empty_root(tmp_path):
    states = {found.name: found.state for found in registry.available(tmp_path / "nothing")}
    assert states == {
        "digits": "ready",
        "cifar10": "download",
        "cifar100": "download",
        "tinyimagenet": "download",
        "imagenet": "missing",
    }


def test_availability_of_what_is_there(official):
    np.savez(official / "cifar100.npz", **made_up())
    np.savez(official / "own.npz", **made_up())
    (official / "tiny-imagenet-200").mkdir()
    found = {each.name: each for each in registry.available(official)}
    assert (found["cifar10"].state, found["cifar10"].detail) == ("ready", "official files")
    assert (found["cifar100"].state, "class 10 of 100 has no image" in found["cifar100"].detail) == ("broken", True)
    assert found["own"].state == "unverified"
    assert found["tinyimagenet"].state == "broken"


def test_digits_of_another_scikit_learn_are_unverified(monkeypatch):
    monkeypatch.setattr(sources, "DIGITS_SHA256", "0" * 64)
    raw = sources.digits()
    assert not raw.verified
    assert raw.notes[0].startswith("unverified data")
