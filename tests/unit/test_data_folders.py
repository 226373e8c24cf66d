"""Folders of images: layouts, greyscale, caches, and every refusal by name."""

import io
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from advbench.benchmark.data import image_folders, registry, tinyimagenet
from advbench.benchmark.data.sources import DataError
from advbench.benchmark.protocol import Data

WNIDS = [f"n{i:08d}" for i in range(200)]


def jpeg(path, seed, mode="RGB", size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path, "JPEG", quality=90)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A made-up Tiny ImageNet in the official layout: two training images and one of val for each of 200 classes."""
    folder = tmp_path_factory.mktemp("template") / "tiny-imagenet-200"
    lines = []
    for label, wnid in enumerate(WNIDS):
        for number in range(2):
            mode = "L" if (label, number) == (7, 0) else "RGB"
            jpeg(folder / f"train/{wnid}/images/{wnid}_{number}.JPEG", 2 * label + number, mode)
        (folder / f"train/{wnid}/{wnid}_boxes.txt").write_text("no image")
        jpeg(folder / f"val/images/val_{label}.JPEG", 1000 + label)
        lines.append(f"val_{label}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val/val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(reversed(WNIDS)))
    (folder / "words.txt").write_text(f"{WNIDS[0]}\tgoldfish, Carassius auratus\n")
    return folder


@pytest.fixture
def root(template, tmp_path):
    shutil.copytree(template, tmp_path / "tiny-imagenet-200")
    return tmp_path


@pytest.fixture
def tiny(root):
    return root / "tiny-imagenet-200"


def load(root, **changes):
    return registry.load(Data(**{"name": "tinyimagenet", "validation": 20, **changes}), root=root, download=False)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def everything(split):
    x, y, _ = next(split.batches(len(split)))
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), y.numpy()


def test_the_official_layout(root, tiny):
    dataset = load(root)
    assert (dataset.shape, dataset.num_classes) == ((3, 64, 64), 200)
    assert dataset.classes[:2] == (f"{WNIDS[0]} goldfish", WNIDS[1])
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (380, 20, 200)
    x, y = everything(dataset.test)
    assert y.tolist() == list(range(200))
    np.testing.assert_array_equal(x[7], pixels(tiny / "val/images/val_7.JPEG"))
    provenance = dataset.provenance
    assert not provenance.verified
    assert provenance.notes == (
        "unverified data: 2 of 500 train images a class",
        "unverified data: 1 of 50 val images a class",
    )
    assert provenance.extra["train"]["images"] == 400
    assert (provenance.extra["train"]["greyscale"], provenance.extra["val"]["greyscale"]) == (1, 0)


def test_greyscale_becomes_rgb(root, tiny):
    decoded = tinyimagenet.decode(image_folders.by_class(tiny / "train", WNIDS), 64, root / "cache")
    image = decoded.pixels[14]  # the first of class 7
    np.testing.assert_array_equal(image, pixels(tiny / f"train/{WNIDS[7]}/images/{WNIDS[7]}_0.JPEG"))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_sorted_val_and_flat_classes_are_the_same_data(root, tiny):
    before = load(root)
    for label, wnid in enumerate(WNIDS):
        (tiny / "val" / wnid).mkdir()
        (tiny / f"val/images/val_{label}.JPEG").rename(tiny / f"val/{wnid}/val_{label}.JPEG")
        for path in (tiny / f"train/{wnid}/images").iterdir():
            path.rename(tiny / f"train/{wnid}/{path.name}")
        (tiny / f"train/{wnid}/images").rmdir()
    (tiny / "val/images").rmdir()
    after = load(root)
    assert after.provenance == before.provenance
    for one, two in zip(everything(before.test), everything(after.test), strict=True):
        np.testing.assert_array_equal(one, two)


def test_complete_and_equal_is_verified(root, monkeypatch):
    extra = load(root).provenance.extra
    monkeypatch.setattr(tinyimagenet, "OFFICIAL", {part: extra[part]["digest"] for part in ("train", "val")})
    provenance = load(root).provenance
    assert provenance.verified
    assert provenance.notes == ()


def test_complete_by_number_but_different_is_not_verified(root, monkeypatch):
    monkeypatch.setattr(tinyimagenet, "PER_CLASS", {"train": 2, "val": 1})
    provenance = load(root).provenance
    assert not provenance.verified
    assert provenance.notes[0] == "unverified data: files of train differ from the official ones"
    complete, said = tinyimagenet.inspect(root)
    assert (complete, "compared when the set is first loaded" in said) == (True, True)


def test_the_digest_knows_content_and_label(root, tiny):
    first = load(root).provenance.digest
    jpeg(tiny / "val/images/val_0.JPEG", 5555)
    second = load(root).provenance.digest
    annotations = tiny / "val/val_annotations.txt"
    lines = annotations.read_text().splitlines()
    swapped = [lines[1].replace("val_1.", "val_0."), lines[0].replace("val_0.", "val_1."), *lines[2:]]
    annotations.write_text("\n".join(swapped))
    third = load(root).provenance.digest
    assert len({first, second, third}) == 3


def test_images_are_decoded_once(root, monkeypatch):
    first = load(root)

    def fails(path):
        raise AssertionError(f"{path} is opened again")

    monkeypatch.setattr(tinyimagenet, "read_image", fails)
    second = load(root)
    assert first.provenance == second.provenance
    assert torch.equal(first.train.images, second.train.images)
    assert not list((root / tinyimagenet.CACHE).glob("partial-*"))


@pytest.mark.parametrize("tear", ["pixels.npy", "decoded.json"])
def test_a_torn_cache_is_made_again(root, tear):
    first = load(root)
    for path in (root / tinyimagenet.CACHE).glob(f"*/{tear}"):
        path.write_bytes(path.read_bytes()[:40])
    second = load(root)
    assert torch.equal(first.train.images, second.train.images)
    assert first.provenance == second.provenance


def test_a_replaced_image_is_decoded_again(root, tiny):
    load(root)
    path = tiny / "val/images/val_3.JPEG"
    before = path.stat()
    jpeg(path, 4444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    x, _ = everything(load(root).test)
    np.testing.assert_array_equal(x[3], pixels(path))


def test_a_cache_that_cannot_be_written_costs_a_warning(root, caplog):
    (root / tinyimagenet.CACHE).write_text("a file in the way")
    assert len(load(root).test) == 200
    assert "the images are decoded each time" in caplog.text


def test_a_read_only_root_is_cached_for_the_user(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tinyimagenet.os, "access", lambda path, mode: False)
    load(root)
    assert list((tmp_path / "home/advbench/data" / tinyimagenet.CACHE).glob("*/pixels.npy"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-900])


def no_class(tiny):
    shutil.rmtree(tiny / f"train/{WNIDS[4]}")


def empty_class(tiny):
    for path in (tiny / f"train/{WNIDS[4]}/images").iterdir():
        path.unlink()


def unknown_class(tiny):
    jpeg(tiny / "train/n99999999/images/a.JPEG", 0)


def fewer_wnids(tiny):
    (tiny / "wnids.txt").write_text("\n".join(WNIDS[1:]))


def wnid_twice(tiny):
    (tiny / "wnids.txt").write_text("\n".join([*WNIDS[1:], WNIDS[1]]))


def no_wnids_and_no_class(tiny):
    (tiny / "wnids.txt").unlink()
    no_class(tiny)


def truncated(tiny):
    cut(tiny / f"train/{WNIDS[3]}/images/{WNIDS[3]}_1.JPEG")


def truncated_val(tiny):
    cut(tiny / "val/images/val_9.JPEG")


def empty_image(tiny):
    (tiny / "val/images/val_9.JPEG").write_bytes(b"")


def no_image(tiny):
    (tiny / "val/images/val_9.JPEG").write_text("<html>not found</html>")


def other_size(tiny):
    jpeg(tiny / "val/images/val_9.JPEG", 0, size=(64, 48))


def edit(tiny, old, new):
    path = tiny / "val/val_annotations.txt"
    path.write_text(path.read_text().replace(old, new))


def label_out_of_range(tiny):
    edit(tiny, f"val_9.JPEG\t{WNIDS[9]}", "val_9.JPEG\tn99999999")


def line_without_label(tiny):
    edit(tiny, f"val_9.JPEG\t{WNIDS[9]}\t0\t32\t44\t62", "val_9.JPEG")


def no_label(tiny):
    edit(tiny, f"val_9.JPEG\t{WNIDS[9]}\t0\t32\t44\t62\n", "")


def no_val_image(tiny):
    (tiny / "val/images/val_9.JPEG").unlink()


def no_val_class(tiny):
    edit(tiny, f"val_9.JPEG\t{WNIDS[9]}", f"val_9.JPEG\t{WNIDS[8]}")


def no_val(tiny):
    shutil.rmtree(tiny / "val")


def no_train(tiny):
    shutil.rmtree(tiny / "train")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_class, rf"train.{WNIDS[4]}: class missing \(200 classes expected\)"),
        (empty_class, rf"train.{WNIDS[4]}: class missing: it holds no image"),
        (unknown_class, "train.n99999999: label out of range: n99999999 is none of the 200 classes"),
        (fewer_wnids, "class missing: 199 classes instead of 200"),
        (wnid_twice, r"wnids.txt: lists a class twice"),
        (no_wnids_and_no_class, "class missing: 199 classes instead of 200"),
        (truncated, rf"{WNIDS[3]}_1.JPEG: not a readable image \(.*truncated"),
        (truncated_val, r"val_9.JPEG: not a readable image \(.*truncated"),
        (empty_image, r"val_9.JPEG: not a readable image \(cannot identify"),
        (no_image, r"val_9.JPEG: not a readable image \(cannot identify"),
        (other_size, r"val_9.JPEG: 64×48 pixels instead of 64×64"),
        (label_out_of_range, r"val_annotations.txt:10: label out of range: n99999999"),
        (line_without_label, r"val_annotations.txt:10: label out of range: no class"),
        (no_label, r"val_9.JPEG: no label in val_annotations.txt"),
        (no_val_image, "val_9: image missing although"),
        (no_val_class, rf"class missing: no image of {WNIDS[9]}"),
        (no_val, "val: missing: it must hold a folder of images for each class"),
        (no_train, f"train.{WNIDS[0]}: class missing|train: missing"),
    ],
)
def test_a_broken_folder_is_refused_by_name(root, tiny, damage, said):
    damage(tiny)
    with pytest.raises(DataError, match=said) as caught:
        load(root)
    assert str(tiny) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((root / tinyimagenet.CACHE).glob("partial-*"))


def test_left_overs_of_other_systems_are_no_images(root, tiny):
    before = load(root).provenance
    (tiny / "train/.DS_Store").write_bytes(b"x")
    (tiny / f"train/{WNIDS[0]}/images/._{WNIDS[0]}_0.JPEG").write_bytes(b"x")
    assert load(root).provenance == before


def test_a_decompression_bomb_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    buffer = io.BytesIO()
    Image.new("1", (300, 300)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"bomb.png: not a readable image"):
        image_folders.read_image(path)
