"""The real sets: CIFAR-10 and CIFAR-100 to the last byte, Tiny ImageNet's validation set, and real training steps."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from advbench.benchmark import discovery
from advbench.benchmark.data import image_lists, registry, sources, tinyimagenet
from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.data.partition import balanced, permutation
from advbench.benchmark.method import Batch, OneNetwork
from advbench.benchmark.models import architectures
from advbench.benchmark.protocol import Data, published

UNPACK = Path(__file__).resolve().parents[3] / "shared" / "data" / "unpack.py"


@pytest.fixture(scope="session")
def real_root(tmp_path_factory):
    """`real_root(name)`: a data root that holds a real set: $ADVBENCH_DATA, else unpacked once for all workers."""

    def find(name):
        chosen = os.environ.get("ADVBENCH_DATA")
        if chosen and (Path(chosen) / KNOWN[name].folder).exists():
            return Path(chosen)
        if not UNPACK.exists():
            pytest.skip(f"no real {name}: set ADVBENCH_DATA to a folder that holds {KNOWN[name].folder}")
        base = tmp_path_factory.getbasetemp()
        root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real"
        root.mkdir(exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if not (root / f"{name}.done").exists():
                subprocess.run([sys.executable, str(UNPACK), "--to", str(root), name], check=True, capture_output=True)
                (root / f"{name}.done").touch()
        return root

    return find


@pytest.fixture(scope="session")
def real(real_root):
    """`real(protocol)`: the data of a published protocol, loaded once."""
    loaded = {}

    def load(protocol):
        spec = published()[protocol].data
        if protocol not in loaded:
            loaded[protocol] = registry.load(spec, root=real_root(spec.name), download=False)
        return loaded[protocol]

    return load


def test_the_lists_of_the_lite_protocol_follow_their_rule(real_root):
    spec = published()["cifar10-linf-lite/1"].data
    root = real_root("cifar10")
    whole = sources.cifar(root, "cifar10")
    assert whole.test is not None
    for part, images, listing in (("train", whole.train, spec.train_list), ("test", whole.test, spec.test_list)):
        due = balanced(images.y, permutation(len(images.y), 0, f"lite-{part}"), listing.images)
        lines = image_lists.FOLDER.joinpath(listing.file).read_text("ascii").split()
        assert lines == [str(index) for index in due]
        assert set(np.bincount(images.y[due])) == {listing.images // 10}
    dataset = registry.load(spec, root=root, download=False)
    assert dataset.provenance.verified
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (5000, 500, 1000)


@pytest.mark.parametrize(
    ("protocol", "classes", "first_name", "digest"),
    [
        ("cifar10-linf/1", 10, "airplane", "3971f136da7c6f975816a9661d04e11a6c59175105654264bb7710756e9579d7"),
        ("cifar100-linf/1", 100, "apple", "ea311c3aa73c82fd0f529402df24187f0ca09fe10389f7e7320f6a3739b9116c"),
    ],
)
def test_cifar_is_the_official_one(real, protocol, classes, first_name, digest):
    dataset = real(protocol)
    provenance = dataset.provenance
    assert provenance.verified
    assert (provenance.train, provenance.validation, provenance.test) == (49_000, 1000, 10_000)
    assert provenance.digest == digest
    assert provenance.split_sha256 == "dbf00f6bf014eecd7709ad773596b3d0b606f2c6bb40d793d2fa4b6b64910d36"
    assert dataset.num_classes == classes
    assert dataset.classes[0] == first_name
    assert torch.bincount(dataset.test.labels).tolist() == [10_000 // classes] * classes
    every = torch.cat([dataset.train.labels, dataset.validation.labels])
    assert torch.bincount(every).tolist() == [50_000 // classes] * classes


def test_cifar10_has_its_published_mean_and_deviation(real):
    # 0.4914, 0.4822, 0.4465 and 0.2470, 0.2435, 0.2616 over the training set: the constants of every CIFAR script
    dataset = real("cifar10-linf/1")
    pixels = torch.cat([dataset.train.images, dataset.validation.images]).reshape(-1, 3)
    for channel, (mean, deviation) in enumerate([(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)]):
        counts = torch.bincount(pixels[:, channel], minlength=256).double()
        levels = torch.arange(256).double() / 255
        found = (counts * levels).sum() / counts.sum()
        spread = ((counts * (levels - found) ** 2).sum() / counts.sum()).sqrt()
        assert (round(float(found), 4), round(float(spread), 4)) == (mean, deviation)


def test_a_changed_byte_of_the_real_cifar10_is_found(real_root, tmp_path):
    source = real_root("cifar10") / "cifar-10-batches-py"
    copy = tmp_path / "cifar-10-batches-py"
    copy.mkdir()
    for path in source.iterdir():
        if path.name != "test_batch":
            (copy / path.name).symlink_to(path)
    content = bytearray((source / "test_batch").read_bytes())
    content[1_000_000] ^= 1
    (copy / "test_batch").write_bytes(content)
    with pytest.raises(registry.DataError, match=r"test_batch: not the official file"):
        registry.load(published()["cifar10-linf/1"].data, root=tmp_path, download=False)


def test_a_subset_of_cifar10_says_so(real_root):
    spec = Data("cifar10", validation=1000, train_limit=500, test_limit=200)
    dataset = registry.load(spec, root=real_root("cifar10"), download=False)
    assert dataset.provenance.verified
    assert dataset.provenance.notes == ("subset: 500 of 49000 training images", "subset: 200 of 10000 test images")
    assert torch.bincount(dataset.train.labels).tolist() == [50] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [20] * 10


def test_tiny_imagenet(real):
    dataset = real("tinyimagenet-linf/1")
    provenance = dataset.provenance
    assert (dataset.shape, dataset.num_classes) == ((3, 64, 64), 200)
    assert dataset.classes[0] == "n01443537 goldfish"
    assert (provenance.validation, provenance.test) == (2000, 10_000)
    assert torch.bincount(dataset.test.labels).tolist() == [50] * 200
    # The validation set is complete wherever this runs; the training set may be a part, and then says so.
    assert provenance.extra["val"]["digest"] == tinyimagenet.OFFICIAL["val"]
    assert provenance.extra["val"]["greyscale"] == 168
    per_class = provenance.extra["train"]["smallest_class"]
    assert provenance.verified == (per_class == 500)
    if per_class != 500:
        assert provenance.notes == (f"unverified data: {per_class} of 500 train images a class",)
        assert provenance.train == 200 * per_class - 2000


@pytest.mark.parametrize(
    ("protocol", "network", "size"),
    [
        ("cifar10-linf/1", "preactresnet18", 8),
        ("cifar10-linf-wrn/1", "wrn34-10", 4),
        ("tinyimagenet-linf/1", "preactresnet18", 8),
    ],
)
def test_a_real_batch_through_a_training_step(real, make_step, tiny_task, protocol, network, size):  # noqa: PLR0917
    """PGD-AT with one inner step: the loss is finite and every weight moves."""
    dataset = real(protocol)
    assert published()[protocol].network == network
    torch.manual_seed(0)
    nets = OneNetwork(architectures.build(network, num_classes=dataset.num_classes, channels=dataset.shape[0]))
    nets.to(memory_format=torch.channels_last)
    before = {name: weight.detach().clone() for name, weight in nets.named_parameters()}
    step = make_step(nets, tiny_task(), steps=1, eps="8/255", size="2/255")
    batch = Batch(*next(dataset.train.epoch(size, torch.Generator().manual_seed(0))))
    assert batch.x.shape == (size, *dataset.shape)
    assert 0.0 <= float(batch.x.min()) < float(batch.x.max()) <= 1.0
    assert torch.equal(batch.y, dataset.train.labels[batch.index])
    discovery.make("pgd_at").update(nets, batch, step)
    for name, weight in nets.named_parameters():
        assert torch.isfinite(weight).all(), name
        assert not torch.equal(weight, before[name]), name
