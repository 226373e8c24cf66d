"""Batches: augmentation against a plain reference, order, ranges, and draws that do not depend on the device."""

import numpy as np
import pytest
import torch

from advbench.benchmark.data import registry
from advbench.benchmark.data.augmentation import autoaugment, crop_flip, cutmix, resized_crop_box
from advbench.benchmark.data.sources import DataError, Labelled
from advbench.benchmark.data.splits import InMemory
from advbench.benchmark.protocol import Data, published


def made_up(count=40, height=7, width=5, channels=3):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return Labelled(x, np.arange(count, dtype=np.int64) % 4)


def split(augment="none", pad=0, count=40, scale=255):
    return InMemory(made_up(count), np.arange(count), augment=augment, pad=pad, scale=scale)


def plain_crop_flip(image, top, left, flip, pad):
    """The textbook: pad, cut, mirror."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    crop = padded[top : top + image.shape[0], left : left + image.shape[1]]
    return crop[:, ::-1] if flip else crop


@pytest.mark.parametrize("pad", [0, 1, 4])
def test_crop_flip_is_the_textbook_one(pad):
    images = torch.from_numpy(made_up().x)
    generator = torch.Generator().manual_seed(pad)
    index = torch.randint(0, 40, (64,), generator=generator)
    shift = torch.randint(0, 2 * pad + 1, (2, 64), generator=generator)
    flip = torch.randint(0, 2, (64,), generator=generator) == 1
    found = crop_flip(images, index, shift, flip, pad)
    assert found.dtype == torch.uint8
    for i in range(64):
        expected = plain_crop_flip(images[index[i]].numpy(), shift[0, i], shift[1, i], flip[i], pad)
        np.testing.assert_array_equal(found[i].numpy(), expected)


def test_batches_are_all_images_in_order():
    whole = split()
    parts = list(whole.batches(16))
    assert [len(x) for x, _, _ in parts] == [16, 16, 8]
    x, y, index = (torch.cat(part) for part in zip(*parts, strict=True))
    assert index.tolist() == list(range(40))
    assert torch.equal(y, whole.labels)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    expected = torch.from_numpy(made_up().x.transpose(0, 3, 1, 2)).to(torch.float64) / 255
    assert torch.equal(x, expected.to(torch.float32))


@pytest.mark.parametrize("indices", [[3, 1, 2], (3, 1, 2), torch.tensor([3, 1, 2]), range(3, 6)])
def test_batches_take_indices_of_any_kind(indices):
    batches = list(split().batches(2, indices))
    assert [len(x) for x, _, _ in batches] == [2, 1]
    assert torch.cat([index for _, _, index in batches]).tolist() == [int(i) for i in indices]


def test_no_indices_are_no_batches():
    assert list(split().batches(2, [])) == []


@pytest.mark.parametrize("indices", [[40], [-1]])
def test_indices_beyond_the_split_are_refused(indices):
    with pytest.raises(DataError, match="reach beyond the 40 images"):
        list(split().batches(2, indices))


def test_an_epoch_is_a_permutation_without_its_incomplete_batch():
    epoch = list(split().epoch(16, torch.Generator().manual_seed(0)))
    assert [len(x) for x, _, _ in epoch] == [16, 16]
    index = torch.cat([part for _, _, part in epoch])
    assert len(set(index.tolist())) == 32
    assert index.tolist() != sorted(index.tolist())


def test_an_unaugmented_epoch_has_the_images_themselves():
    whole = split()
    for x, y, index in whole.epoch(16, torch.Generator().manual_seed(0)):
        assert torch.equal(x, next(whole.batches(16, index))[0])
        assert torch.equal(y, whole.labels[index])


def test_an_augmented_epoch_is_made_of_crops_of_its_images():
    whole = split("crop-flip", pad=2)
    seen = set()
    for x, y, index in whole.epoch(16, torch.Generator().manual_seed(0)):
        assert torch.equal(y, whole.labels[index])
        for image, i in zip(x, index.tolist(), strict=True):
            pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            original = made_up().x[i]
            matches = [
                (top, left, flip)
                for top in range(5)
                for left in range(5)
                for flip in (False, True)
                if np.array_equal(plain_crop_flip(original, top, left, flip, 2), pixels)
            ]
            assert matches
            seen.add(matches[0])
    assert len({top for top, _, _ in seen}) > 3
    assert len({left for _, left, _ in seen}) > 3
    assert {flip for _, _, flip in seen} == {False, True}


def test_cutmix_pastes_a_box_of_the_next_image_over_at_most_half():
    images = torch.arange(1, 5, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 8, 6, 3)
    draws = torch.tensor([[0.5, 0.25, 0.9, 0.0], [0.5, 0.0, 0.5, 0.5], [0.5, 0.5, 0.99, 0.5]])
    mixed = cutmix(images, draws)
    for i, (share, row, column) in enumerate(draws.T.tolist()):
        side = min(share, 1 - share) ** 0.5
        high, wide = int(8 * side), int(6 * side)
        top, left = int(8 * row) - high // 2, int(6 * column) - wide // 2
        for y in range(8):
            for x in range(6):
                inside = top <= y < top + high and left <= x < left + wide
                assert mixed[i, y, x].tolist() == 3 * [int(images[i - 1 if inside else i, 0, 0, 0])]
        assert (mixed[i] == images[i]).double().mean() >= 0.5
    assert (mixed[0] != images[0]).any()
    assert torch.equal(mixed[3], images[3])


def test_autoaugment_changes_images_one_by_one_and_no_global_stream():
    images = torch.from_numpy(made_up(8, 16, 16).x)
    images[1:] = images[0]
    state = torch.get_rng_state()
    found = autoaugment(images, 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in found}) > 2
    assert torch.equal(found, autoaugment(images, 7))
    assert not torch.equal(found, autoaugment(images, 8))


@pytest.mark.parametrize("augment", ["none", "crop-flip", "autoaugment", "cutmix"])
def test_the_generator_decides_everything(augment):
    def epoch(seed):
        torch.manual_seed(torch.seed() % 1000)  # the global stream must not matter
        return torch.cat([x for x, _, _ in split(augment, 2).epoch(8, torch.Generator().manual_seed(seed))])

    assert torch.equal(epoch(0), epoch(0))
    assert not torch.equal(epoch(0), epoch(1))


@pytest.mark.parametrize("augment", ["crop-flip", "autoaugment", "cutmix"])
def test_an_epoch_leaves_the_generator_where_it_is_whatever_is_read(augment):
    states = []
    for read in (1, 5):
        generator = torch.Generator().manual_seed(0)
        epoch = split(augment, 2).epoch(8, generator)
        for _ in range(read):
            next(epoch)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_too_few_images_for_a_batch_are_refused():
    with pytest.raises(DataError, match="fewer than one batch of 64"):
        next(split().epoch(64, torch.Generator()))


def test_digits_are_sixteenths():
    digits = registry.load(published()["digits-linf/1"].data)
    x, _, _ = next(digits.test.batches(100))
    assert digits.shape == (1, 8, 8) == tuple(x.shape[1:])
    assert torch.equal(x * 16, (x * 16).round())
    assert float(x.max()) == 1.0
    assert float(x.min()) == 0.0
    assert digits.provenance.verified
    assert digits.num_classes == 10
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1497, 200, 100)


def test_digits_are_not_mirrored():
    with pytest.raises(DataError, match=r"data.augment = \"none\""):
        registry.load(Data("digits", validation=200, test=100, augment="crop-flip"))


def test_a_resized_crop_is_not_for_images_in_memory():
    with pytest.raises(DataError, match="is for imagenet"):
        registry.load(Data("digits", validation=200, test=100, augment="resized-crop-flip"))


def test_resized_crops_stay_inside_and_keep_their_promise():
    rng = np.random.default_rng(0)
    areas, aspects = [], []
    for _ in range(3000):
        left, top, right, bottom = resized_crop_box(300, 200, rng.random(40).tolist())
        assert 0 <= left < right <= 300
        assert 0 <= top < bottom <= 200
        areas.append((right - left) * (bottom - top) / (300 * 200))
        aspects.append((right - left) / (bottom - top))
    assert 0.07 < min(areas) < 0.1
    assert max(areas) > 0.85
    assert 0.7 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.4


@pytest.mark.parametrize(
    ("size", "box"), [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506)), ((100, 100), (0, 0, 100, 100))]
)
def test_when_no_crop_fits_it_is_the_central_one(size, box):
    assert resized_crop_box(*size, [0.999, 0.0, 0.5, 0.5] * 10) == box
