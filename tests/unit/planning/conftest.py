"""Made-up suites, stores, runs and results, without torch."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from advbench.benchmark.protocol import published
from advbench.benchmark.records.schema import (
    CHECKPOINTS,
    FAMILIES,
    Checkpoint,
    DataProvenance,
    Divergence,
    Environment,
    Evaluation,
    MethodIdentity,
    Outcomes,
    Passes,
    Record,
    TrainingRecord,
)
from advbench.benchmark.records.shard_result import ShardResult
from advbench.benchmark.runs.plan import MethodFacts, MethodRequest, Suite, runs
from advbench.benchmark.runs.run_folder import MeasuredShard, RunFolder, Trained, Weights
from advbench.benchmark.runs.store import Store

DIGITS = published()["digits-linf/1"]
CIFAR = published()["cifar10-linf/1"]
CATALOGUE = {
    "standard": MethodFacts({}, {}, 3.0),
    "pgd_at": MethodFacts({"gamma": 1.0}, {}, 23.0),
    "trades": MethodFacts({"beta": 6.0, "rounds": 2, "soft": False, "mode": "a"}, {}, 27.0),
    "distilled": MethodFacts({"beta": 1.0}, {"clean": "standard", "robust": "pgd_at"}, None),
    "chained": MethodFacts({}, {"robust": "distilled"}),
    "egg": MethodFacts({}, {"parent": "hen"}),
    "hen": MethodFacts({}, {"parent": "egg"}),
}
SHA = "5" * 64
ENVIRONMENT = Environment(advbench="0", python="3", libraries={}, device="cpu", cpu="c", threads=1, precision="fp32")


def suite(*methods: str, protocols=(DIGITS,), seeds=(0,)) -> Suite:
    return Suite(tuple(protocols), tuple(MethodRequest(name) for name in methods), seeds)


def folder_of(store: Store, suite: Suite, name: str) -> RunFolder:
    return next(store.folder(run.spec) for run in runs(suite, CATALOGUE) if run.spec.method == name)


def train(folder: RunFolder, *, test: int = 100, diverged: bool = False, checkpoints=CHECKPOINTS) -> Trained:
    folder.create()
    weights = {}
    for number, name in enumerate(checkpoints):
        folder.weights(name).write_bytes(name.encode() * 50)
        digest = hashlib.sha256(folder.weights(name).read_bytes()).hexdigest()
        weights[name] = Weights(epoch=number, sha256=digest, bytes=200)
    trained = Trained(
        method=MethodIdentity(
            name=folder.spec.method, label="M", hyperparameters=folder.spec.hyperparameters, family="f", title="t",
            authors="a", venue="v", year=2019, url="u", key="k", robust=True,
        ),
        data=DataProvenance(
            name="digits", source="s", verified=True, digest=SHA, train=1497, validation=200, test=test,
            split_sha256=SHA, num_classes=10,
        ),
        training=TrainingRecord(
            environment=ENVIRONMENT, epochs=12, seconds=60.0, peak_memory_bytes=1, passes=Passes(forward=600),
            images=1, parameters_deployed=1, parameters_trained=1, selection="validation-pgd", best_epoch=0,
            diverged=Divergence(epoch=3, step=40, last_good_epoch=2) if diverged else None,
        ),
        checkpoints=weights,
    )  # fmt: skip
    folder.finish_training(trained)
    return trained


def attack(folder: RunFolder, trained: Trained, family: str, shards=(0,), checkpoints=CHECKPOINTS) -> None:
    for checkpoint in checkpoints:
        for shard in shards:
            one = MeasuredShard(
                shard=shard, checkpoint_sha256=trained.checkpoints[checkpoint].sha256, environment=ENVIRONMENT,
                seconds=4.0, passes=Passes(forward=40), result=ShardResult(family, 0, np.zeros(0, np.int64)),
            )  # fmt: skip
            folder.add_shard(checkpoint, family, one, trained)


def finish(store: Store, suite: Suite) -> None:
    for run in runs(suite, CATALOGUE):
        folder = store.folder(run.spec)
        trained = train(folder)
        for family in FAMILIES if run.evaluated else ():
            attack(folder, trained, family)


def record(folder: RunFolder, **changes) -> Record:
    trained = train(folder)
    outcomes = Outcomes.pack([True] * 90 + [False] * 10)
    checkpoint = Checkpoint(epoch=1, sha256=SHA, evaluation=Evaluation(columns={"clean": outcomes}))
    protocol = folder.spec.protocol
    return Record(
        **{
            "run": folder.id, "created": "2026-01-01T00:00:00+00:00", "protocol": protocol.canonical(),
            "protocol_name": protocol.name, "protocol_digest": protocol.digest, "official": True,
            "network": protocol.network, "method": trained.method, "seed": folder.spec.seed, "data": trained.data,
            "training": trained.training, "checkpoints": {"best": checkpoint}, **changes,
        }
    )  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def made() -> SimpleNamespace:
    """What makes up suites and fills stores with runs."""
    return SimpleNamespace(
        suite=suite, folder_of=folder_of, train=train, attack=attack, finish=finish, record=record,
        DIGITS=DIGITS, CIFAR=CIFAR, CATALOGUE=CATALOGUE, SHA=SHA, ENVIRONMENT=ENVIRONMENT,
    )  # fmt: skip
