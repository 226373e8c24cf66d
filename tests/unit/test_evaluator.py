import dataclasses
import itertools
import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.evaluation import arena, evaluator
from advbench.benchmark.evaluation.arena import dispose, predicted
from advbench.benchmark.evaluation.evaluator import (
    EvaluationError,
    ShardResult,
    attack_images,
    evaluate_shard,
    merge,
)
from advbench.benchmark.evaluation.other_threats import doubt_about_labels
from advbench.benchmark.protocol import Threat, published
from advbench.benchmark.records.outcomes import gather
from advbench.benchmark.records.schema import STAGES, Environment

CLASSES, SHARD, N = 5, 24, 40
ENVIRONMENT = Environment(
    advbench="0", python="3", libraries={}, device="cpu", cpu="cpu", threads=1, precision="strict fp32"
)


@pytest.fixture(scope="module")
def protocol():
    digits = published()["digits-linf/1"]
    attacks = dataclasses.replace(digits.attacks, shard=SHARD)
    return dataclasses.replace(digits, name="test/1", attacks=attacks, threat=Threat("linf", Fraction(1, 20)))


@pytest.fixture(scope="module")
def images():
    """Class = which of five columns is bright, with noise: a small network learns it in a second."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (N,), generator=generator)
    x = 0.45 * torch.rand(N, 1, 6, 5, generator=generator)
    x[torch.arange(N), 0, :, y] += 0.2
    return x, y


@pytest.fixture(scope="module")
def net(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(180, 5))
    x, y = images
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x + 0.2 * torch.randn_like(x)), y).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def shards(net, images, protocol):
    x, y = images
    return {
        family: [
            evaluate_shard(
                net, x[at : at + SHARD], y[at : at + SHARD], first=at, family=family, protocol=protocol, seed=1
            )
            for at in range(0, N, SHARD)
        ]
        for family in ("clean", "pgd", "cw", "autoattack")
    }


class Reaching(nn.Module):
    """Moves images that it was not handed."""

    def __init__(self, inner, images):
        super().__init__()
        self.inner, self.images = inner, images

    def forward(self, x):
        self.images.mul_(0.99)
        return self.inner(x)


def test_images_that_were_changed_under_judgement_count_for_nothing(net, images, protocol):
    x, y = (each[:SHARD].clone() for each in images)
    with pytest.raises(EvaluationError, match="changed the images it was judged on"):
        evaluate_shard(Reaching(net, x), x, y, first=0, family="clean", protocol=protocol, seed=1)


def test_labels_in_another_order_are_noticed():
    labels = torch.arange(100) % 10
    rolled = (labels + 1) % 10
    assert "labels shifted by 9" in doubt_about_labels(rolled.numpy(), labels, 10)
    assert "100.0%" in doubt_about_labels((9 - labels).numpy(), labels, 10)
    assert doubt_about_labels(labels.numpy(), labels, 10) == ""
    assert doubt_about_labels(np.full(100, 3), labels, 10) == ""
    assert doubt_about_labels(np.full(100, -1), labels, 10) == ""


class TestPredicted:
    def test_ties_go_to_the_lowest_class(self):
        assert predicted(torch.tensor([[1.0, 3, 3], [2, 2, 2], [0, 1, 2]])).tolist() == [1, 0, 2]

    def test_a_logit_that_is_not_finite_is_wrong(self):
        logits = torch.tensor([[math.nan, 1, 9], [1, math.inf, 0], [-math.inf, 0, 1], [0, 1, 2]])
        assert predicted(logits).tolist() == [-1, -1, -1, 2]


class TestDispose:
    def test_clips_to_ball_and_range(self):
        x = torch.tensor([[[[0.1, 0.5, 0.95]]]])
        got = dispose(torch.tensor([[[[-3.0, 0.9, 2.0]]]]), x, Ball("linf", 0.2))
        torch.testing.assert_close(got, torch.tensor([[[[0.0, 0.7, 1.0]]]]))

    def test_leaves_a_legal_proposal_alone(self):
        x = torch.rand(3, 1, 4, 4)
        proposal = (x + 0.1 * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        assert torch.equal(dispose(proposal, x, Ball("linf", 0.1)), proposal)

    def test_a_pixel_that_is_not_finite_becomes_clean(self):
        x = torch.tensor([[[[0.5, 0.5]]]])
        assert dispose(torch.tensor([[[[math.nan, 0.6]]]]), x, Ball("linf", 0.2)).flatten().tolist() == pytest.approx(
            [0.5, 0.6]
        )
        assert dispose(torch.tensor([[[[math.inf, 0.6]]]]), x, Ball("linf", 0.2))[0, 0, 0, 0] == 0.5

    def test_wrong_shape(self):
        with pytest.raises(EvaluationError, match="shape"):
            dispose(torch.rand(2, 1, 4, 4), torch.rand(3, 1, 4, 4), Ball("linf", 0.1))

    def test_the_assertion_does_not_rely_on_the_clipping(self, monkeypatch):
        monkeypatch.setattr(arena.torch, "clamp", lambda proposal, *_: proposal)
        with pytest.raises(EvaluationError, match="outside the ball"):
            dispose(torch.full((1, 1, 1, 1), 0.9), torch.full((1, 1, 1, 1), 0.5), Ball("linf", 0.2))


class TestShards:
    def test_no_column_exceeds_clean_and_attacks_bite(self, shards):
        for clean, pgd, cw, aa in zip(*shards.values(), strict=True):
            right = clean.columns["clean"]
            for result in (pgd, cw, aa):
                for bits in result.columns.values():
                    assert not (bits & ~right).any()
            assert right.sum() > aa.columns["autoattack"].sum()

    def test_stages_are_cumulative_and_end_in_the_column(self, shards):
        for result in shards["autoattack"]:
            stages = [result.stages[name] for name in STAGES]
            for before, after in itertools.pairwise(stages):
                assert not (after & ~before).any()
            assert (stages[-1] == result.columns["autoattack"]).all()

    def test_bit_reproducible(self, net, images, protocol, shards):
        x, y = images
        for family in ("pgd", "cw", "autoattack"):
            torch.rand(7)  # the global generator has moved on
            again = evaluate_shard(net, x[:SHARD], y[:SHARD], first=0, family=family, protocol=protocol, seed=1)
            first = shards[family][0]
            for name, bits in first.columns.items():
                assert (again.columns[name] == bits).all()
            for name, bits in first.stages.items():
                assert (again.stages[name] == bits).all()
            assert again.passes == first.passes

    def test_images_by_themselves_get_their_own_starts(self, net, images, protocol, shards):
        x, y = images
        chosen = [3, 17, 30, 39]
        whole = {family: shards[family] for family in ("clean", "pgd", "cw")}
        for family, parts in whole.items():
            found = attack_images(net, x[chosen], y[chosen], images=chosen, family=family, protocol=protocol)
            for column, bits in found.items():
                assert (np.concatenate([part.columns[column] for part in parts])[chosen] == bits).all()

    def test_passes(self, shards):
        n = SHARD
        clean, pgd, cw, aa = (shards[family][0] for family in shards)
        assert (clean.passes.forward, clean.passes.input_gradient) == (n, 0)
        # one clean forward, 20 steps, one judgement; then 80 steps and one judgement
        assert pgd.costs["pgd20"].passes.forward == n * 22
        assert pgd.costs["pgd100"].passes.forward == n * 81
        assert pgd.passes.input_gradient == n * 100
        assert (cw.passes.forward, cw.passes.input_gradient) == (n * 22, n * 20)
        assert aa.passes.weight_gradient == pgd.passes.weight_gradient == 0
        assert aa.passes.forward == sum(aa.costs[stage].passes.forward for stage in STAGES)
        assert aa.passes.input_gradient > 0

    def test_leaves_the_network_as_it_was(self, net, images, protocol):
        x, y = images
        before = {name: value.clone() for name, value in net.state_dict().items()}
        net.train()
        evaluate_shard(net, x[:8], y[:8], first=0, family="pgd", protocol=protocol, seed=0)
        assert net.training
        net.eval()
        assert all(parameter.requires_grad for parameter in net.parameters())
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert not net._forward_hooks

    def test_run_seed_changes_autoattack_alone(self, net, images, protocol, monkeypatch):
        seeds = []
        real = evaluator.autoattack.propose

        def spy(*args, **kwargs):
            seeds.append((kwargs["attack"], kwargs["seed"], len(args[1])))
            return real(*args, **kwargs)

        monkeypatch.setattr(evaluator.autoattack, "propose", spy)
        x, y = images
        result = evaluate_shard(net, x[SHARD:], y[SHARD:], first=SHARD, family="autoattack", protocol=protocol, seed=2)
        expected = [(a, evaluator.autoattack.seed_of(protocol.digest, 2, a, 1)) for a in STAGES]
        assert [one[:2] for one in seeds] == expected[: len(seeds)]
        left = [int((result.predictions == y[SHARD:].numpy()).sum())]
        left += [int(result.stages[stage].sum()) for stage in STAGES]
        assert [one[2] for one in seeds] == left[: len(seeds)]

    def test_settings(self, shards):
        settings = shards["pgd"][0].settings["pgd20"]
        assert settings["eps"] == "1/20"
        assert (settings["steps"], settings["step"], settings["iterate"]) == (20, "3/80", "last")
        aa = shards["autoattack"][0].settings["autoattack"]
        assert (aa["targets"], aa["standard"]) == (4, False)
        json.dumps(aa)

    def test_plain_round_trip(self, shards):
        for results in shards.values():
            for result in results:
                again = ShardResult.from_plain(json.loads(json.dumps(result.to_plain())))
                assert again.to_plain() == result.to_plain()
                assert again.passes == result.passes
                for name, bits in result.columns.items():
                    assert (again.columns[name] == bits).all()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda plain: plain.pop("n"),
            lambda plain: plain.update(n=plain["n"] + 9),
            lambda plain: plain["columns"].update(clean="zz"),
            lambda plain: plain["columns"].update(clean="ff"),
            lambda plain: plain.update(columns=None),
            lambda plain: plain["costs"]["clean"]["passes"].update(forward=-1),
        ],
    )
    def test_damaged_plain(self, shards, damage):
        plain = json.loads(json.dumps(shards["clean"][0].to_plain()))
        damage(plain)
        with pytest.raises(EvaluationError, match="shard result") as caught:
            ShardResult.from_plain(plain)
        assert "\n" not in str(caught.value)


class TestMerge:
    @pytest.fixture(autouse=True)
    def _protocol(self, protocol):
        self.protocol = protocol

    def merge(self, shards, **changes):
        return merge(
            shards,
            **{"environment": ENVIRONMENT, "n_test": N, "num_classes": CLASSES, "protocol": self.protocol, **changes},
        )

    def test_all(self, shards, images):
        evaluation = self.merge(shards)
        assert list(evaluation.columns) == ["clean", "pgd20", "pgd100", "cw", "autoattack"]
        assert list(evaluation.stages) == list(STAGES)
        assert sum(evaluation.predicted_classes) == N
        assert evaluation.worst is not None
        joined = np.concatenate([part.columns["cw"] for part in shards["cw"]])
        assert (evaluation.columns["cw"].correct == joined).all()
        total = sum(part.passes.forward for part in shards["autoattack"])
        assert evaluation.columns["autoattack"].passes.forward == total
        assert evaluation.columns["pgd20"].settings["eps"] == "1/20"

    def test_incomplete_family_is_absent(self, shards):
        evaluation = self.merge({**shards, "autoattack": shards["autoattack"][:1], "cw": []})
        assert list(evaluation.columns) == ["clean", "pgd20", "pgd100"]
        assert evaluation.stages == {}
        assert evaluation.worst is None

    def test_order_gaps_and_overlaps(self, shards):
        first, second = shards["cw"]
        for wrong in ([second, first], [second], [first, first]):
            with pytest.raises(EvaluationError, match="shard"):
                self.merge({"cw": wrong})
        with pytest.raises(EvaluationError, match="hold 48 images"):
            self.merge({"cw": [first, dataclasses.replace(first, first=SHARD)]})
        with pytest.raises(EvaluationError, match="16 images, not 24"):
            self.merge({"cw": [second]}, n_test=100)

    def test_other_settings(self, shards):
        first, second = shards["cw"]
        other = dataclasses.replace(second, settings={"cw": {**second.settings["cw"], "eps": "1/2"}})
        with pytest.raises(EvaluationError, match="other settings"):
            self.merge({"cw": [first, other]})

    def test_no_column_exceeds_the_clean_family(self, shards):
        wrong = [dataclasses.replace(part, columns={"clean": np.zeros(part.n, dtype=bool)}) for part in shards["clean"]]
        evaluation = self.merge({**shards, "clean": wrong})
        assert evaluation.accuracy("pgd20") == 0

    def test_warnings_and_counts_are_kept(self, shards):
        first, second = shards["cw"]
        loud = dataclasses.replace(first, warnings=("b", "a"), evidence={"cw:proposals_not_finite": 2, "max_x": 1.0})
        other = dataclasses.replace(second, warnings=("a",), evidence={"cw:proposals_not_finite": 3, "max_x": 0.5})
        settings = self.merge({"cw": [loud, other]}).columns["cw"].settings
        assert settings["warnings"] == ["a", "b"]
        assert settings["noted"] == {"proposals_not_finite": 5}
        assert gather([loud, other]) == {"cw:proposals_not_finite": 5, "max_x": 1.0}


class Broken(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.answer = forward

    def forward(self, x):
        return self.answer(x)


class TestBadInput:
    def refuse(self, match, network, x, y, protocol, **changes):
        with pytest.raises(EvaluationError, match=match) as caught:
            evaluate_shard(network, x, y, **{"first": 0, "family": "pgd", "protocol": protocol, "seed": 0, **changes})
        assert "\n" not in str(caught.value)

    def test_images(self, net, images, protocol):
        x, y = images[0][:4], images[1][:4]
        self.refuse(r"\[0,1\]", net, x * 255, y, protocol)
        self.refuse(r"\[0,1\]", net, x - 0.5, y, protocol)
        self.refuse(r"\[0,1\]", net, torch.full_like(x, math.nan), y, protocol)
        self.refuse("float32", net, x.double(), y, protocol)
        self.refuse("float32", net, x[0], y, protocol)
        self.refuse("float32", net, x[:0], y[:0], protocol)

    def test_labels(self, net, images, protocol):
        x, y = images[0][:4], images[1][:4]
        self.refuse("labels", net, x, y[:3], protocol)
        self.refuse("labels", net, x, y.float(), protocol)
        self.refuse("labels", net, x, y - 9, protocol)
        self.refuse("5 classes, but there is a label 7", net, x, torch.full_like(y, 7), protocol)

    def test_network(self, net, images, protocol):
        x, y = images[0][:4], images[1][:4]
        self.refuse("does not take images", net, x.repeat(1, 3, 1, 1), y, protocol)
        self.refuse("5 classes, the data set 10", net, x, y, protocol, num_classes=10)
        self.refuse("not finite", Broken(lambda x: torch.full((len(x), 5), math.nan)), x, y, protocol)
        self.refuse(r"must give logits", Broken(lambda x: x), x, y, protocol)
        self.refuse(r"must give logits", Broken(lambda x: x.flatten(1)[:2]), x, y, protocol)
        self.refuse("tuple", Broken(lambda x: (x, x)), x, y, protocol)
        self.refuse("targeted DLR", Broken(lambda x: x.flatten(1)[:, :3]), x, y % 3, protocol, family="autoattack")

    def test_protocol_and_shard(self, net, images, protocol):
        x, y = images
        for eps in (Fraction(0), Fraction(-1, 2)):
            bad = dataclasses.replace(protocol, threat=Threat("linf", eps))
            self.refuse("eps", net, x[:4], y[:4], bad)
        self.refuse("shard", net, x, y, protocol)
        self.refuse("shard", net, x[:4], y[:4], protocol, first=3)
        self.refuse("shard", net, x[:4], y[:4], protocol, first=-SHARD)
        self.refuse("no family", net, x[:4], y[:4], protocol, family="fgsm")


def test_a_nan_on_attacked_images_counts_as_wrong(images, protocol):
    x, y = images[0][:SHARD].round(decimals=1), images[1][:SHARD]

    def detector(z):
        logits = 9.0 * torch.eye(CLASSES)[y[: len(z)]] + 0 * z.flatten(1).sum(1, keepdim=True)
        odd = ((z - z.round(decimals=1)).abs().flatten(1).amax(1) > 1e-6)[:, None]
        return torch.where(odd, torch.full_like(logits, math.nan), logits)

    result = evaluate_shard(Broken(detector), x, y, first=0, family="pgd", protocol=protocol, seed=0)
    assert (result.predictions == y.numpy()).all()
    assert not result.columns["pgd20"].any()
    assert result.evidence["pgd20:adversarial_logits_not_finite"] == SHARD


def test_outcomes_do_not_import_torch():
    code = "import sys, advbench.benchmark.records.outcomes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
