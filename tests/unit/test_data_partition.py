"""Splits: fixed for ever, disjoint, stratified, balanced; limits; one line for what cannot be."""

import numpy as np
import pytest

from advbench.benchmark.data.partition import balanced, fingerprint, partition, permutation, stratified
from advbench.benchmark.data.sources import DataError, digits
from advbench.benchmark.protocol import Data

CIFAR_LABELS = np.arange(50_000) % 10
TEST_LABELS = np.arange(10_000) % 10


def spec(**changes):
    return Data(**{"name": "cifar10", "validation": 1000, **changes})


def test_a_permutation_is_fixed_for_ever():
    # sorted(range(8), key=lambda i: sha256(f"validation/0/{i}").digest()): a changed stream is a changed split.
    assert permutation(8, 0, "validation").tolist() == [5, 0, 4, 6, 1, 7, 3, 2]
    assert sorted(permutation(1000, 3, "test").tolist()) == list(range(1000))


@pytest.mark.parametrize("other", [(8, 1, "validation"), (8, 0, "train")])
def test_seed_and_purpose_change_it(other):
    assert permutation(*other).tolist() != permutation(8, 0, "validation").tolist()


def test_the_published_cifar_split():
    cut = partition(spec(), CIFAR_LABELS, TEST_LABELS)
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (49_000, 1000, 10_000)
    assert not set(cut.train) & set(cut.validation)
    assert sorted([*cut.train, *cut.validation]) == list(range(50_000))
    assert cut.test.tolist() == list(range(10_000))
    assert cut.sha256 == "dbf00f6bf014eecd7709ad773596b3d0b606f2c6bb40d793d2fa4b6b64910d36"
    assert cut.notes == ()


@pytest.mark.parametrize(
    ("validation", "test", "train", "sha256"),
    [
        (200, 100, 1497, "6630f48dd9f7465bb14c61b288df68a95299c992b76d8ec544433b2cdab3ba90"),
        (240, 360, 1197, "56e69a88d0bdf6937c84ef955f3574be46b2c37f7b21764cc40771615188164f"),
    ],
)
def test_the_published_digits_splits_are_stratified(validation, test, train, sha256):
    labels = digits().train.y
    cut = partition(Data("digits", validation=validation, test=test, augment="none"), labels, None)
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (train, validation, test)
    together = np.concatenate([cut.train, cut.validation, cut.test])
    assert sorted(together.tolist()) == list(range(1797))
    assert cut.sha256 == sha256
    for part in (cut.train, cut.validation, cut.test):
        expected = np.bincount(labels) / len(labels) * len(part)
        assert np.abs(np.bincount(labels[part]) - expected).max() <= 1.5


def test_stratified_follows_class_sizes_and_balanced_does_not():
    labels = np.array([0] * 80 + [1] * 20)
    order = permutation(100, 0, "test")
    assert np.bincount(labels[stratified(labels, order, 10)]).tolist() == [8, 2]
    assert np.bincount(labels[balanced(labels, order, 10)]).tolist() == [5, 5]
    assert np.bincount(labels[balanced(labels, order, 60)]).tolist() == [40, 20]


def test_limits_keep_classes_balanced_and_are_noted():
    cut = partition(spec(train_limit=505, test_limit=100), CIFAR_LABELS, TEST_LABELS)
    assert set(np.bincount(CIFAR_LABELS[cut.train]).tolist()) == {50, 51}
    assert set(np.bincount(TEST_LABELS[cut.test]).tolist()) == {10}
    assert cut.notes == ("subset: 505 of 49000 training images", "subset: 100 of 10000 test images")
    whole = partition(spec(), CIFAR_LABELS, TEST_LABELS)
    assert set(cut.train) <= set(whole.train)
    assert cut.validation.tolist() == whole.validation.tolist()
    assert cut.sha256 != whole.sha256


def test_a_smaller_limit_is_a_part_of_a_larger_one():
    small = partition(spec(train_limit=100, test_limit=50), CIFAR_LABELS, TEST_LABELS)
    large = partition(spec(train_limit=300, test_limit=90), CIFAR_LABELS, TEST_LABELS)
    assert set(small.train) <= set(large.train)
    assert set(small.test) <= set(large.test)


def test_a_limit_of_everything_is_no_subset():
    cut = partition(spec(train_limit=49_000), CIFAR_LABELS, TEST_LABELS)
    assert len(cut.train) == 49_000
    assert cut.notes == ()


def test_digits_can_be_limited_too():
    labels = digits().train.y
    data = Data("digits", validation=40, test=30, augment="none", train_limit=96, test_limit=20)
    cut = partition(data, labels, None)
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (96, 40, 20)
    assert not set(cut.test) & (set(cut.train) | set(cut.validation))


def test_the_fingerprint_tells_splits_apart():
    one, two = np.array([0, 1]), np.array([2])
    assert fingerprint(one, two) == fingerprint(one.copy(), two.astype(np.int32))
    assert fingerprint(one, two) != fingerprint(two, one)
    assert fingerprint(np.array([0]), np.array([1, 2])) != fingerprint(one, two)


@pytest.mark.parametrize(
    ("changes", "test_labels", "said"),
    [
        ({"validation": 50_000}, TEST_LABELS, "data.validation = 50000 leaves nothing to train on"),
        ({"test": 100}, TEST_LABELS, "cifar10 has an official test set: leave data.test out"),
        ({"train_limit": 49_001}, TEST_LABELS, "data.train_limit = 49001 is more than the 49000"),
        ({"test_limit": 10_001}, TEST_LABELS, "data.test_limit = 10001 is more than the 10000"),
        ({}, None, "set data.test"),
        ({"test": 49_000}, None, r"data.test \+ data.validation = 50000 leaves nothing"),
    ],
)
def test_what_cannot_be_is_one_line(changes, test_labels, said):
    with pytest.raises(DataError, match=said) as caught:
        partition(spec(**changes), CIFAR_LABELS, test_labels)
    assert "\n" not in str(caught.value)
