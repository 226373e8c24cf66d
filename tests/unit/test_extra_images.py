"""Extra training images: which of them come into which batch, what is refused, and who is told."""

import hashlib

import numpy as np
import pytest
import torch

from advbench.benchmark.data import registry
from advbench.benchmark.data.extra_images import Mixed
from advbench.benchmark.data.sources import DataError, Labelled
from advbench.benchmark.data.splits import InMemory
from advbench.benchmark.discovery import make
from advbench.benchmark.protocol import Protocol, ProtocolError
from advbench.benchmark.review.adapter.workload import small_protocol
from advbench.benchmark.runs.environment import describe
from advbench.benchmark.training.trainer import train

EXTRA = 70


def generated(count=EXTRA, shape=(8, 8, 1), classes=10):
    rng = np.random.default_rng(1)
    return Labelled(rng.integers(0, 17, (count, *shape), dtype=np.uint8), rng.integers(0, classes, count))


@pytest.fixture
def protocol(tmp_path):
    """A small protocol on digits whose batches are three quarters generated; keywords change its section."""

    def build(arrays=None, **section):
        images = generated()
        path = tmp_path / "generated.npz"
        np.savez(path, **({"image": images.x, "label": images.y} if arrays is None else arrays))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        plain = small_protocol(epochs=2).canonical()
        plain["data"]["extra"] = {"file": path.name, "sha256": sha256, "images": EXTRA, "share": "3/4", **section}
        return Protocol.from_plain(plain)

    return build


def mixed(own=20, extra=EXTRA, share=0.75):
    rng = np.random.default_rng(0)
    images = Labelled(rng.integers(0, 256, (own, 8, 8, 1), dtype=np.uint8), np.zeros(own, dtype=np.int64))
    split = InMemory(images, np.arange(own))
    return split, Mixed(split, Labelled(generated(extra).x, np.ones(extra, dtype=np.int64)), share=share)


@pytest.mark.parametrize(("share", "count"), [(0.75, 6), (0.5, 4), (0.01, 1), (0.99, 7)])
def test_every_batch_has_its_share_and_no_image_comes_twice(share, count):
    _, split = mixed(share=share)
    batches = list(split.epoch(8, torch.Generator().manual_seed(0)))
    assert len(batches) == len(split) // 8 == 2, "an epoch is as long as that of the data set alone"
    for x, y, index in batches:
        assert y.tolist() == [0] * (8 - count) + [1] * count
        assert ((index >= 20) == (y == 1)).all()
        pixels = (split.images[index].permute(0, 3, 1, 2).double() / 255).float()
        assert torch.equal(x, pixels)
        assert torch.equal(split.labels[index], y)
    seen = torch.cat([index for _, _, index in batches])
    assert len(seen.unique()) == len(seen)


def test_few_extra_images_come_again_only_after_all_others():
    _, split = mixed(extra=5)
    index = torch.cat([index for _, _, index in split.epoch(8, torch.Generator().manual_seed(0))])
    times = torch.bincount(index[index >= 20] - 20)
    assert times.sum() == 12
    assert times.max() - times.min() <= 1


def test_an_epoch_is_drawn_from_its_generator_alone():
    _, split = mixed()
    first, again, other = (
        torch.cat([index for _, _, index in split.epoch(8, torch.Generator().manual_seed(seed))]) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_data_set_alone_is_what_is_measured():
    plain, split = mixed()
    assert len(split) == 20
    for (x, y, _), (x_mixed, y_mixed, _) in zip(plain.batches(7), split.batches(7), strict=True):
        assert torch.equal(x, x_mixed)
        assert torch.equal(y, y_mixed)


def test_a_memory_of_every_image_holds_the_extra_ones_and_the_record_tells(protocol, tmp_path):
    chosen = protocol()
    data = registry.load(chosen.data, root=tmp_path)
    assert len(data.train) == 96
    assert data.provenance.train == 96
    assert data.provenance.notes[-1] == "extra data: generated.npz, 70 images, 3/4 of every batch"
    method, cpu = make("sglr"), torch.device("cpu")
    record = train(method, chosen, data, seed=0, folder=tmp_path, device=cpu, environment=describe(cpu))
    assert record.diverged is None
    assert record.images == 2 * 96


@pytest.mark.parametrize(
    ("arrays", "section", "message"),
    [
        (None, {"file": "other.npz"}, "put the file there"),
        (None, {"sha256": "0" * 64}, "its sha256 is another"),
        (None, {"images": 71}, "image is 70×8×8×1, protocol and data set want 71×8×8×1"),
        ({"image": generated().x}, {}, "no label: it needs the arrays image, label"),
        ({"image": generated().x / 16, "label": generated().y}, {}, "image must be uint8"),
        ({"image": generated(shape=(6, 6, 1)).x, "label": generated().y}, {}, "70×6×6×1"),
        ({"image": generated().x, "label": generated().y + 1}, {}, "out of range"),
    ],
)
def test_what_the_protocol_does_not_mean_is_refused_in_one_line(protocol, tmp_path, arrays, section, message):
    with pytest.raises(DataError, match=message) as caught:
        registry.load(protocol(arrays, **section).data, root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_share_of_everything_leaves_no_data_set(protocol):
    with pytest.raises(ProtocolError, match="share must be below 1"):
        protocol(share="1")
