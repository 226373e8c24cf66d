"""Jobs are plain data, and what they are called follows from what they are."""

import dataclasses
import json
import re

import pytest

from advbench.benchmark.protocol import ProtocolError, published
from advbench.benchmark.records.schema import CHECKPOINTS, FAMILIES
from advbench.benchmark.runs.job import Job, RunSpec


@pytest.fixture
def run() -> RunSpec:
    return RunSpec(published()["digits-linf/1"], "trades", {"beta": 6.0, "release_bn": False}, seed=0)


def test_a_run_survives_json(run):
    run = dataclasses.replace(run, teachers={"robust": "0123456789abcdef"})
    again = RunSpec.from_plain(json.loads(json.dumps(run.to_plain())))
    assert again == run
    assert again.id == run.id


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_job_survives_json(run, checkpoint, family):
    job = Job("evaluate", run, checkpoint, family, (0, 1, 2), ("before",))
    assert Job.from_plain(json.loads(json.dumps(job.to_plain()))) == job
    train = Job("train", run)
    assert Job.from_plain(json.loads(json.dumps(train.to_plain()))) == train


def test_the_identity_is_16_hex_digits(run):
    assert re.fullmatch("[0-9a-f]{16}", run.id)


def test_everything_that_makes_another_network_makes_another_identity(run):
    protocol = published()["digits-linf-full/1"]
    others = [
        dataclasses.replace(run, protocol=protocol),
        dataclasses.replace(run, method="mart"),
        dataclasses.replace(run, hyperparameters={"beta": 3.0, "release_bn": False}),
        dataclasses.replace(run, hyperparameters={"beta": 6.0}),
        dataclasses.replace(run, seed=1),
        dataclasses.replace(run, teachers={"robust": "0123456789abcdef"}),
        dataclasses.replace(run, teachers={"robust": "0123456789abcde0"}),
    ]
    assert len({run.id, *(other.id for other in others)}) == len(others) + 1


def test_the_identity_ignores_prose_and_order(run):
    same = dataclasses.replace(
        run,
        protocol=dataclasses.replace(run.protocol, summary="said differently"),
        hyperparameters={"release_bn": False, "beta": 6.0},
    )
    assert same.id == run.id


def test_job_identities_are_unique_within_a_store(run):
    jobs = [Job("train", run)]
    jobs += [Job("evaluate", run, checkpoint, family, (0,)) for checkpoint in CHECKPOINTS for family in FAMILIES]
    jobs += [Job("evaluate", run, "best", "pgd", (1, 2)), Job("evaluate", run, "best", "pgd", (1,))]
    assert len({job.id for job in jobs}) == len(jobs)


def test_names_for_people(run):
    assert run.label == "digits-linf/1 trades seed 0"
    assert Job("train", run).label == "train digits-linf/1 trades seed 0"
    assert Job("evaluate", run, "best", "cw", (0,)).label == "cw on best of digits-linf/1 trades seed 0"


def test_a_job_with_a_broken_protocol_is_refused(run):
    plain = Job("train", run).to_plain()
    plain["run"]["protocol"]["threat"]["eps"] = 0.031
    with pytest.raises(ProtocolError, match=r"^job: threat\.eps: "):
        Job.from_plain(plain)
