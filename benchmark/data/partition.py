"""Which images belong to which split: fixed permutations that no library version can change.

The permutation of a purpose under a seed sorts images by sha256("purpose/seed/i"). NumPy's and torch's permutations are
not used, since neither promises the same stream in later versions and a published split must stay what it is.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advbench.benchmark.data.sources import DataError
from advbench.benchmark.protocol import Data

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """Indices (ascending) of the three splits; `test` counts in the official test set where there is one.

    Attributes:
        sha256: of the three index lists; see `fingerprint`.
        notes: what was left out on purpose ("subset: …").
    """

    train: Indices
    validation: Indices
    test: Indices
    sha256: str
    notes: tuple[str, ...]


def permutation(count: int, seed: int, purpose: str) -> Indices:
    """Return a permutation of 0 … count−1 that depends on `seed` and `purpose` alone."""
    digests = (hashlib.sha256(f"{purpose}/{seed}/{i}".encode()).digest()[:8] for i in range(count))
    keys = np.fromiter((int.from_bytes(digest, "big") for digest in digests), dtype=np.uint64, count=count)
    return np.argsort(keys, kind="stable").astype(np.int64)


def fingerprint(*splits: Indices) -> str:
    """Return the sha256 of index lists: each as its length, then its indices, all little-endian 64-bit integers."""
    digest = hashlib.sha256()
    for indices in splits:
        digest.update(np.array([len(indices)], dtype="<i8").tobytes())
        digest.update(indices.astype("<i8").tobytes())
    return digest.hexdigest()


def balanced(labels: Indices, order: Indices, count: int) -> Indices:
    """Return the `count` indices that come first in `order` when classes take turns: equal numbers while they last."""
    return np.sort(order[np.argsort(_ranks(labels[order]), kind="stable")][:count])


def stratified(labels: Indices, order: Indices, count: int) -> Indices:
    """Return `count` indices, from each class in proportion to its size, the first ones in `order`."""
    sizes = np.bincount(labels[order])
    share = (_ranks(labels[order]) + 0.5) / sizes[labels[order]]
    return np.sort(order[np.argsort(share, kind="stable")][:count])


def _ranks(labels: Indices) -> Indices:
    """Return for each image how many images of its class come before it."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        ranks[own] = np.arange(len(own))
    return ranks


def partition(spec: Data, train_labels: Indices, test_labels: Indices | None) -> Partition:
    """Cut the validation split out of the training set, and a test set too where there is no official one.

    Validation: the first images of a permutation of the training set; without an official test set both splits are
    stratified by class. `train_limit` and `test_limit` then keep a class-balanced subset.

    Raises:
        DataError: if the protocol asks for more images than there are, or for a cut that the data set does not need.
    """
    everything = np.arange(len(train_labels), dtype=np.int64)
    if test_labels is None:
        if not spec.test:
            raise DataError(f"{spec.name} has no official test set: set data.test to the number of test images")
        _leaves_something(spec, "data.test + data.validation", spec.test + spec.validation, len(everything))
        test = stratified(train_labels, permutation(len(everything), spec.split_seed, "test"), spec.test)
        order = permutation(len(everything), spec.split_seed, "validation")
        validation = stratified(train_labels, order[~np.isin(order, test)], spec.validation)
        all_test = train_labels
    else:
        if spec.test:
            raise DataError(f"{spec.name} has an official test set: leave data.test out (data.test_limit takes a part)")
        _leaves_something(spec, "data.validation", spec.validation, len(everything))
        test = np.arange(len(test_labels), dtype=np.int64)
        validation = np.sort(permutation(len(everything), spec.split_seed, "validation")[: spec.validation])
        all_test = test_labels
    train = np.setdiff1d(everything, np.concatenate([validation, test]) if test_labels is None else validation)
    train, train_note = _limit(train, train_labels, spec.train_limit, spec.split_seed, "train")
    test, test_note = _limit(test, all_test, spec.test_limit, spec.split_seed, "test")
    notes = (*train_note, *test_note)
    return Partition(train, validation, test, fingerprint(train, validation, test), notes)


def _leaves_something(spec: Data, key: str, asked: int, there: int) -> None:
    if asked >= there:
        raise DataError(f"{key} = {asked} leaves nothing to train on: {spec.name} has {there} training images here")


def _limit(chosen: Indices, labels: Indices, limit: int, seed: int, split: str) -> tuple[Indices, tuple[str, ...]]:
    """Keep `limit` of the chosen images (0: all) and say so."""
    if not limit:
        return chosen, ()
    if limit > len(chosen):
        raise DataError(f"data.{split}_limit = {limit} is more than the {len(chosen)} images there are: lower it, or 0")
    if limit == len(chosen):
        return chosen, ()
    order = permutation(len(labels), seed, f"{split}-limit")
    kept = balanced(labels, order[np.isin(order, chosen)], limit)
    name = {"train": "training", "test": "test"}[split]
    return kept, (f"subset: {limit} of {len(chosen)} {name} images",)
