"""Lists of images: the same subset for everybody, refused in one line where it is not."""

import dataclasses
import hashlib

import numpy as np
import pytest

from advbench.benchmark.data import image_lists, registry
from advbench.benchmark.data.image_lists import averaged, chosen, content, listed
from advbench.benchmark.data.sources import DataError, Labelled, Raw
from advbench.benchmark.protocol import Data, ImageList
from advbench.benchmark.runs.plan import sizes

IMAGES = Labelled(np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), np.arange(6) % 3)
NAMES = [f"n1/{at}.JPEG" for at in range(6)]


@pytest.fixture
def committed(tmp_path, monkeypatch):
    monkeypatch.setattr(image_lists, "FOLDER", tmp_path)

    def commit(*lines, images=None):
        content = "".join(f"{line}\n" for line in lines).encode()
        (tmp_path / "some.txt").write_bytes(content)
        return ImageList("some.txt", hashlib.sha256(content).hexdigest(), images or len(lines))

    return commit


def test_a_list_of_indices_is_the_set_in_the_order_of_the_list(committed):
    chosen = listed(IMAGES, (), committed(4, 0, 2))
    assert chosen.x.flatten().tolist() == [4, 0, 2]
    assert chosen.y.tolist() == [1, 0, 2]
    assert listed(IMAGES, (), None) is IMAGES


def test_a_list_of_names_finds_the_same_images_in_a_part_of_the_set(committed):
    wanted = committed(NAMES[5], NAMES[1])
    whole = listed(IMAGES, NAMES, wanted)
    part = listed(Labelled(IMAGES.x[[1, 3, 5]], IMAGES.y[[1, 3, 5]]), [NAMES[1], NAMES[3], NAMES[5]], wanted)
    assert whole.x.flatten().tolist() == part.x.flatten().tolist() == [5, 1]
    assert whole.y.tolist() == part.y.tolist()


@pytest.mark.parametrize(
    ("lines", "images", "message"),
    [
        ((0, 6), None, "1 of 2 images of some.txt are not here, such as 6"),
        ((0, 0), None, "2 different images, it has 1"),
        ((0, 1), 3, "3 different images, it has 2"),
        ((-1, 1), None, "not here, such as -1"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_in_one_line(committed, lines, images, message):
    with pytest.raises(DataError, match=message):
        listed(IMAGES, (), committed(*lines, images=images))


def test_a_changed_or_missing_list_is_refused(committed):
    wanted = committed(0, 1)
    with pytest.raises(DataError, match="sha256 is another"):
        listed(IMAGES, (), dataclasses.replace(wanted, sha256="0" * 64))
    with pytest.raises(DataError, match=r"none\.txt: no such list"):
        listed(IMAGES, (), dataclasses.replace(wanted, file="none.txt"))


@pytest.mark.parametrize("name", ["digits", "imagenet"])
def test_a_set_without_such_images_takes_no_list(committed, tmp_path, name):
    spec = Data(name, validation=5, test=10, augment="resized-crop-flip", test_list=committed(0))
    with pytest.raises(DataError, match="leave"):
        registry.load(spec, root=tmp_path, download=False)


def test_validation_is_cut_from_the_list_and_planning_knows_the_sizes(committed, tmp_path):
    arrays = {"x_train": np.zeros((40, 32, 32, 3), np.uint8), "y_train": np.arange(40) % 10}
    arrays["x_train"][:, 0, 0, 0] = np.arange(40)
    np.savez(tmp_path / "cifar10.npz", **arrays, x_test=arrays["x_train"], y_test=arrays["y_train"])
    chosen = committed(*range(10, 30))
    spec = Data("cifar10", validation=5, train_list=chosen, test_list=chosen)
    dataset = registry.load(spec, root=tmp_path, download=False)
    parts = [next(split.batches(99))[0][:, 0, 0, 0] * 255 for split in (dataset.train, dataset.validation)]
    assert sorted(round(value) for part in parts for value in part.tolist()) == list(range(10, 30))
    assert sizes(spec) == (len(dataset.train), len(dataset.test)) == (15, 20)


def test_larger_images_are_averaged_over_areas():
    x = np.array([[0, 2, 250, 255], [4, 6, 255, 255], [1, 1, 0, 1], [1, 0, 0, 1]], dtype=np.uint8)[None, :, :, None]
    smaller = averaged(Labelled(x, np.array([7])), 2)
    assert smaller.x.dtype == np.uint8
    assert smaller.x[0, :, :, 0].tolist() == [[3, 254], [1, 0]]
    assert smaller.y.tolist() == [7]
    for side in (3, 8):
        with pytest.raises(DataError, match=f"data.side = {side}: images of 4×4 pixels"):
            averaged(Labelled(x, np.array([7])), side)


def test_a_protocol_trains_on_averaged_images():
    plain = Data("digits", validation=50, test=100, augment="none", pad=0)
    whole, half = registry.load(plain), registry.load(dataclasses.replace(plain, side=4))
    assert whole.shape == (1, 8, 8)
    assert half.shape == half.train.take([0, 1])[0].shape[1:] == (1, 4, 4)


def test_what_the_listed_images_contain_decides_whether_data_are_verified(committed):
    """Whoever has the whole set and whoever has a part of it train on the same images, and their records say so."""
    train, test = committed(NAMES[5], NAMES[1]), committed(NAMES[5], NAMES[1])
    raw = Raw(
        IMAGES,
        IMAGES,
        ("a", "b", "c"),
        "folder",
        False,
        "whole",
        notes=("40 of 500",),
        names={"train": NAMES, "test": NAMES},
    )
    part = Labelled(IMAGES.x[[1, 3, 5]], IMAGES.y[[1, 3, 5]])
    fewer = dataclasses.replace(
        raw, train=part, digest="part", names={"train": [NAMES[1], NAMES[3], NAMES[5]], "test": NAMES}
    )
    sha256 = content(listed(IMAGES, NAMES, train))
    due = Data(
        "some",
        validation=1,
        train_list=dataclasses.replace(train, content=sha256),
        test_list=dataclasses.replace(test, content=sha256),
    )
    whole, partial = chosen(raw, due), chosen(fewer, due)
    assert whole.verified
    assert whole.notes == ()
    assert whole.digest == partial.digest
    other = dataclasses.replace(due, test_list=dataclasses.replace(test, content="0" * 64))
    assert not chosen(raw, other).verified
    assert "not the protocol's" in chosen(raw, other).notes[0]
    plain = chosen(raw, dataclasses.replace(due, test_list=test))
    assert (plain.verified, plain.digest) == (False, "whole"), "one list says nothing of what it contains"
