"""A user's ImageNet folder: layouts, views that are torchvision's, epochs that follow their generator, refusals."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from advbench.benchmark import torchvision_import
from advbench.benchmark.data import imagenet, registry
from advbench.benchmark.data.sources import DataError
from advbench.benchmark.protocol import Data

WNIDS = ["n00000000", "n00000001", "n00000002"]
SIZES = [(300, 260), (260, 400), (256, 256), (120, 90)]


def jpeg(path, seed, mode="RGB", size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path, "JPEG", quality=90)


def cut(path):
    path.write_bytes(path.read_bytes()[:-900])


@pytest.fixture
def imagenet_root(tmp_path):
    """Three classes with four training images each, of several sizes and modes, and two of val."""
    folder = tmp_path / "imagenet"
    for label, wnid in enumerate(WNIDS):
        for number, size in enumerate(SIZES):
            mode = ("RGB", "L", "CMYK", "RGB")[number]
            jpeg(folder / f"train/{wnid}/{wnid}_{number}.JPEG", 10 * label + number, mode, size)
        for number in range(2):
            jpeg(folder / f"val/{wnid}/val_{label}_{number}.JPEG", 100 + 10 * label + number, size=SIZES[number])
    return tmp_path


def load_imagenet(root, **changes):
    spec = {"name": "imagenet", "validation": 3, "augment": "resized-crop-flip", "pad": 0, **changes}
    return registry.load(Data(**spec), root=root)


def test_imagenet_is_decoded_when_it_is_due(imagenet_root):
    dataset = load_imagenet(imagenet_root)
    assert (dataset.shape, dataset.num_classes) == ((3, 224, 224), 3)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (9, 3, 6)
    assert not dataset.provenance.verified
    assert dataset.provenance.notes[1].startswith("not the whole of ImageNet: 3 classes, 12 training and 6 val images")
    batches = list(dataset.test.batches(4))
    assert [tuple(x.shape) for x, _, _ in batches] == [(4, 3, 224, 224), (2, 3, 224, 224)]
    assert torch.cat([y for _, y, _ in batches]).tolist() == [0, 0, 1, 1, 2, 2]
    assert all(x.is_contiguous() and x.dtype == torch.float32 for x, _, _ in batches)
    x, y, index = next(dataset.test.batches(4, [5, 0]))
    assert (y.tolist(), index.tolist()) == ([2, 0], [5, 0])
    assert torch.equal(x[1], batches[0][0][0])


def test_the_test_view_is_torchvisions(imagenet_root):
    transforms = torchvision_import.module("torchvision.transforms")
    reference = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for path in sorted((imagenet_root / "imagenet").rglob("*.JPEG")):
        expected = np.asarray(reference(Image.open(path).convert("RGB")))
        np.testing.assert_array_equal(imagenet.test_view(path), expected)


def test_the_training_view_is_crop_then_resize(imagenet_root):
    path = imagenet_root / f"imagenet/train/{WNIDS[0]}/{WNIDS[0]}_0.JPEG"
    draws = np.full(imagenet.DRAWS, 0.5)
    image = Image.open(path).convert("RGB")
    box = imagenet.resized_crop_box(*image.size, draws[:-1].tolist())
    expected = np.asarray(image.crop(box).resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(imagenet.training_view(path, draws), expected)
    draws[-1] = 0.4
    np.testing.assert_array_equal(imagenet.training_view(path, draws), expected[:, ::-1])


def test_an_imagenet_epoch_follows_its_generator(imagenet_root):
    split = load_imagenet(imagenet_root).train

    def epoch(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = list(split.epoch(2, generator))
        return torch.cat([x for x, _, _ in batches]), torch.cat([i for _, _, i in batches]), generator.get_state()

    x, index, state = epoch(0)
    again, _, state_again = epoch(0)
    other, _, _ = epoch(1)
    assert x.shape == (8, 3, 224, 224)
    assert len(set(index.tolist())) == 8
    assert torch.equal(x, again)
    assert torch.equal(state, state_again)
    assert not torch.equal(x, other)
    generator = torch.Generator().manual_seed(0)
    batches = split.epoch(2, generator)
    next(batches)
    batches.close()  # an epoch that is left early leaves the generator where a whole one does
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("layout", ["val_annotations.txt", "LOC_val_solution.csv"])
def test_a_flat_val_takes_a_mapping(imagenet_root, layout):
    folder = imagenet_root / "imagenet"
    before = load_imagenet(imagenet_root).provenance
    lines = ["ImageId,PredictionString"] if layout.endswith(".csv") else []
    for path in sorted((folder / "val").rglob("*.JPEG")):
        wnid = path.parent.name
        lines.append(f"{path.stem},{wnid} 1 2 3 4" if layout.endswith(".csv") else f"{path.name}\t{wnid}")
        path.rename(folder / "val" / path.name)
        if not list(path.parent.iterdir()):
            path.parent.rmdir()
    (folder / layout).write_text("\n".join(lines))
    assert load_imagenet(imagenet_root).provenance == before


def test_a_truncated_imagenet_file_is_named_when_it_is_due(imagenet_root):
    path = imagenet_root / f"imagenet/val/{WNIDS[1]}/val_1_0.JPEG"
    cut(path)
    dataset = load_imagenet(imagenet_root)
    with pytest.raises(DataError, match=r"val_1_0.JPEG: not a readable image"):
        list(dataset.test.batches(2))


def test_imagenet_takes_its_own_augmentation_alone(imagenet_root):
    with pytest.raises(DataError, match='imagenet takes "resized-crop-flip"'):
        load_imagenet(imagenet_root, augment="crop-flip")


def test_a_class_that_only_val_has_is_refused(imagenet_root):
    shutil.rmtree(imagenet_root / f"imagenet/train/{WNIDS[1]}")
    with pytest.raises(DataError, match=f"val.{WNIDS[1]}: label out of range"):
        load_imagenet(imagenet_root)


def test_imagenet_availability(imagenet_root):
    found = {each.name: each for each in registry.available(imagenet_root)}["imagenet"]
    assert found.state == "unverified"
    assert "not the whole of ImageNet" in found.detail
