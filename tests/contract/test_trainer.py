"""The trainer: schedule, streams, selection, divergence, one optimiser over two networks."""

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from advbench.benchmark import discovery
from advbench.benchmark.data import registry
from advbench.benchmark.losses import ce_mean
from advbench.benchmark.method import Card, Method, OneNetwork, TwoNetworks
from advbench.benchmark.models import architectures, weight_files
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.protocol import Schedule, published
from advbench.benchmark.review.adapter import short_runs
from advbench.benchmark.runs.perform import identify
from advbench.benchmark.training import hardware, trainer
from advbench.benchmark.training.seeding import derive
from advbench.benchmark.training.task import TrainingTask
from advbench.benchmark.training.validation import accuracies
from advbench.benchmark.weights import matrices, shifted
from advbench.methods.standard import Standard


def rates(schedule, per_epoch, epochs):
    return [schedule.learning_rate(i, per_epoch=per_epoch, epochs=epochs) for i in range(per_epoch * epochs)]


def test_piecewise_divides_by_ten_at_the_start_of_each_named_epoch():
    assert rates(Schedule("piecewise", 0.1, (2, 3)), 2, 4) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_one_cycle_rises_for_two_fifths_and_falls_to_zero():
    values = rates(Schedule("one-cycle", 0.2), 5, 10)
    assert values[0] == 0
    assert values[10] == pytest.approx(0.1)
    assert max(values) == values[20] == pytest.approx(0.2)
    assert values[-1] == pytest.approx(0.2 / 30)


@pytest.mark.parametrize(
    ("name", "fraction"), [("cifar10-linf/1", 0.5), ("cifar10-linf-wrn/1", 10 / 11), ("digits-linf/1", 0.5)]
)
def test_first_drop_is_the_protocols(name, fraction):
    assert published()[name].training.first_drop == fraction


def test_streams_of_a_run_differ():
    drawn = {derive(seed, purpose, epoch) for seed in range(3) for purpose in "abc" for epoch in range(3)}
    assert len(drawn) == 27
    assert max(drawn) < 2**63


def test_one_optimiser_over_two_networks_equals_two_optimisers(tiny_task, make_step):
    """SGD with momentum and decay is per parameter, so detached peers get exactly the updates of two optimisers."""
    task = tiny_task()
    torch.manual_seed(0)
    joint = TwoNetworks(task.network(), task.network())
    apart = TwoNetworks(task.network(), task.network())
    apart.load_state_dict(joint.state_dict())
    step = make_step(joint, task)
    optimisers = [
        torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        for net in (apart.target, apart.guide)
    ]
    apart.train()
    for seed in range(10):
        batch = task.batch(seed=seed)
        with step.batch(8):
            step.backward(ce_mean(joint.target(batch.x), batch.y) + ce_mean(joint.guide(batch.x), batch.y))
            step.advance()
        losses = [ce_mean(net(batch.x), batch.y) for net in (apart.target, apart.guide)]
        for optimiser, loss in zip(optimisers, losses, strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for ours, theirs in zip(joint.parameters(), apart.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_modules_beside_the_network_train_at_their_factor_of_the_rate_and_are_not_deployed(tmp_path):
    @dataclass(frozen=True)
    class Projected(Standard):
        card = Card(name="projected", **CARD)

        def build(self, task):
            nets = OneNetwork(task.network())
            nets.projection = nn.Linear(32, 10)
            return nets

        def rates(self):
            return {"projection": 0.5}

        def loss(self, nets, batch, step):
            features, logits = step.features(nets.target, batch.x)
            return ce_mean(logits, batch.y) + ce_mean(nets.projection(features), batch.y)

    record = short_runs.run(Projected(), tmp_path)
    assert record.parameters_trained - record.parameters_deployed == 330
    assert not [name for name in load_file(tmp_path / "last.safetensors") if "projection" in name]
    resume, rate = weight_files.load_resume(tmp_path / "resume.pt", torch.device("cpu")), record.curve[-1].lr
    assert [group["lr"] for group in resume["optimiser"]["param_groups"]] == pytest.approx([rate, rate / 2])
    assert "projection learns at 0.5 of the rate" in identify(Projected()).notes


def test_randomness_of_a_methods_own_resumes_to_the_bit_and_differs_between_seeds_and_epochs(tmp_path):
    drawn = []

    @dataclass(frozen=True)
    class Noisy(Standard):
        card = Card(name="noisy", **CARD)

        def loss(self, nets, batch, step):
            noise = torch.rand(batch.x.shape, generator=step.generator)
            drawn.append(float(noise[0, 0, 0, 0]))
            return ce_mean(nets.target(batch.x + 0.1 * noise), batch.y)

    short_runs.resumes_to_the_bit(Noisy(), tmp_path)
    assert len(set(drawn)) == 12
    short_runs.run(Noisy(), tmp_path / "other", seed=1)
    assert len(set(drawn)) == 24


CARD = {
    "label": "x",
    "title": "x",
    "authors": "x",
    "venue": "x",
    "year": 2020,
    "url": "https://x",
    "key": "x2020x",
    "family": "standard",
    "forwards": 3,
}


@dataclass(frozen=True)
class Explodes(Method[OneNetwork]):
    """Turns to NaN in its fifth batch, the second of the second epoch."""

    card = Card(name="explodes", **CARD)

    def build(self, task):
        nets = OneNetwork(task.network())
        nets.register_buffer("seen", torch.zeros(()))
        return nets

    def loss(self, nets, batch, step):
        nets.seen += 1
        poison = torch.where(nets.seen == 5, float("nan"), 1.0)
        return ce_mean(nets.target(batch.x), batch.y) * poison


def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(run, tmp_path, caplog):
    record = run(Explodes(), tmp_path)
    assert record.diverged is not None
    assert record.diverged.model_dump() == {"epoch": 1, "step": 4, "last_good_epoch": 0}
    assert record.epochs == 1
    assert (tmp_path / "best.safetensors").exists()
    assert not (tmp_path / "last.safetensors").exists()
    assert "epoch 1, step 4" in caplog.text
    assert "epoch 0" in caplog.text


def test_selection_follows_the_rule_of_the_card(run, tmp_path):
    record = run(Standard(), tmp_path)
    assert record.selection == "validation-clean"
    best = max(record.curve, key=lambda row: (row.clean, row.epoch))
    assert record.best_epoch == best.epoch
    robust = run("pgd_at", tmp_path / "robust")
    best = max(robust.curve, key=lambda row: (row.robust, row.clean, row.epoch))
    assert robust.selection == "validation-pgd"
    assert robust.best_epoch == best.epoch


def test_the_record_counts_passes_images_and_parameters(run, tmp_path):
    record = run("pgd_at", tmp_path)
    assert record.images == 4 * 3 * 32
    assert record.passes.forwards == record.images * (2 * 2 + 3)  # two inner steps in this cut-down protocol
    assert record.parameters_deployed == record.parameters_trained > 1000
    assert record.peak_memory_bytes > 1e6
    assert record.environment.precision == "fp32"
    assert json.loads(record.model_dump_json())["epochs"] == 4
    assert [row.epoch for row in record.curve] == [0, 1, 2, 3]
    assert all(row.seconds > 0 and row.images_per_second > 0 for row in record.curve)


def test_training_leaves_the_global_random_state_alone(run, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run("standard", tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_run_is_not_trained_again(run, tmp_path):
    first = run("standard", tmp_path)
    again = run("standard", tmp_path)
    assert again.curve == first.curve


@pytest.mark.parametrize("harm", ["cut", "bit", "empty", "gone", "other"])
def test_a_damaged_state_is_noticed_and_the_one_before_it_leads_to_the_same(run, tmp_path, caplog, harm):
    whole = run("standard", tmp_path)
    weights = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("best", "last")]
    path = tmp_path / "resume.pt"
    raw = path.read_bytes()
    harmed = {
        "cut": raw[:1000],
        "bit": raw[:500] + bytes([raw[500] ^ 1]) + raw[501:],
        "empty": b"",
        "other": b"no\nzip",
    }
    path.write_bytes(harmed.get(harm, raw))
    if harm == "gone":
        path.unlink()
    again = run("standard", tmp_path)
    assert ("torn" in caplog.text) == (harm != "gone")
    assert [row.loss for row in again.curve] == [row.loss for row in whole.curve]
    assert again.curve[:3] == whole.curve[:3]  # seconds, too: three epochs were not trained again
    assert [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("best", "last")] == weights


def test_without_a_whole_state_training_starts_anew_and_a_foreign_one_is_refused(run, tmp_path, caplog):
    whole = run("standard", tmp_path)
    for name in ("resume.pt", "resume-older.pt"):
        (tmp_path / name).write_bytes(b"torn")
    again = run("standard", tmp_path)
    assert "training anew" in caplog.text
    assert [row.loss for row in again.curve] == [row.loss for row in whole.curve]
    with pytest.raises(RuntimeError, match="does not fit this method"):
        run(Explodes(), tmp_path)


def test_a_best_checkpoint_that_was_changed_is_not_passed_off_as_trained(run, tmp_path):
    record = run("standard", tmp_path)
    best = tmp_path / "best.safetensors"
    raw = best.read_bytes()
    best.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    if record.best_epoch == record.epochs - 1:  # its network is the state's own
        run("standard", tmp_path)
        assert best.read_bytes() == raw
    else:
        with pytest.raises(trainer.LostBestError, match="not what training wrote"):
            run("standard", tmp_path)


def test_weights_are_readable_for_whom_the_umask_lets(run, tmp_path):
    before = os.umask(0o022)
    try:
        run("standard", tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_too_few_images_for_one_batch_is_one_line(run, tmp_path, small_protocol):
    with pytest.raises(RuntimeError, match="fewer than one batch of 128"):
        run("standard", tmp_path, protocol=small_protocol(batch=128))


@dataclass(frozen=True)
class NeedsTeacher(Standard):
    """Asks for a teacher and checks that it is frozen."""

    card = Card(name="needs_teacher", **CARD)
    requires: ClassVar = {"helper": "standard"}

    def build(self, task):
        nets = OneNetwork(task.network())
        nets.helper = task.teacher("helper")
        return nets

    def loss(self, nets, batch, step):
        assert nets.training
        assert not any(module.training for module in nets.helper.modules())
        x = batch.x.clone().requires_grad_()
        loss = ce_mean(nets.helper(x), batch.y)
        assert torch.autograd.grad(loss, x)[0].abs().sum() > 0
        return ce_mean(nets.target(batch.x), batch.y)


def test_teachers_stay_frozen_in_eval_mode_and_are_not_trained(run, tmp_path):
    record = run(NeedsTeacher(), tmp_path)
    assert record.diverged is None
    assert record.parameters_trained == record.parameters_deployed


def test_refreshed_batch_norm_is_the_cumulative_mean_of_one_pass(run, tmp_path):
    @dataclass(frozen=True)
    class Refreshes(Standard):
        card = Card(name="refreshes", **CARD)

        def build(self, task):
            return OneNetwork(nn.Sequential(nn.BatchNorm2d(1), task.network()))

        def deployed(self, nets):
            return nets.target[1]

        def after_epoch(self, nets, step):
            before = [module.training for module in nets.modules()]
            step.refresh_bn(nets.target)
            norm = nets.target[0]
            assert norm.momentum == 0.1
            assert norm.num_batches_tracked == 3
            assert 0.1 < float(norm.running_mean) < 0.6
            assert [module.training for module in nets.modules()] == before

    run(Refreshes(), tmp_path)


@dataclass(frozen=True)
class Shifts(Standard):
    """Moves its weights between two forwards of one batch, as weight perturbation does."""

    card = Card(name="shifts", **CARD)

    def update(self, nets, batch, step):
        here = nets.target(batch.x).detach()
        assert here.dtype == torch.bfloat16
        with shifted([(weight, torch.full_like(weight, 0.5)) for weight in matrices(nets.target)]):
            there = nets.target(batch.x).detach()
        assert not torch.equal(here, there), "the forward used weights as they were before the shift"
        step.predict(nets.target, batch.x)
        super().update(nets, batch, step)


def test_perturbed_weights_are_what_a_bf16_forward_sees(run, tmp_path, monkeypatch):
    """Autocast's cache would keep bf16 copies of the unperturbed weights: AWP would silently be PGD-AT."""
    monkeypatch.setattr(trainer, "precision", lambda device, wanted: "bf16 autocast")
    record = run(Shifts(), tmp_path)
    assert record.environment.precision == "bf16 autocast"
    assert record.curve[-1].loss < record.curve[0].loss


def test_accuracies_on_training_images_stand_beside_those_on_validation(run, tmp_path, small_protocol):
    record = run("pgd_at", tmp_path)
    protocol = small_protocol()
    images = registry.load(protocol.data, download=False)
    net = architectures.build(protocol.network, num_classes=images.num_classes, channels=images.shape[0])
    net.load_state_dict(load_file(tmp_path / "last.safetensors"))
    count, total = len(images.validation), len(images.train)
    assert count < total, "all training images would show nothing of the choice"
    x, y, _ = next(iter(images.train.batches(total)))
    chosen = [number * total // count for number in range(count)]
    with torch.no_grad():
        right = net.eval()(x[chosen]).argmax(1) == y[chosen]
    logged = record.curve[-1].logged
    assert logged["train_clean"] == pytest.approx(right.double().mean().item())
    assert 0 <= logged["train_robust"] <= logged["train_clean"]
    measured = accuracies(net, images.train, protocol, measure="ce", images=count)
    assert measured == (logged["train_clean"], logged["train_robust"])


def test_best_is_chosen_by_the_worse_of_two_attacks_where_the_protocol_says_so(run, tmp_path, small_protocol):
    protocol = small_protocol()
    worst = dataclasses.replace(protocol, selection=dataclasses.replace(protocol.selection, measure="worst"))
    record = run("pgd_at", tmp_path, protocol=worst)
    assert record.selection == "validation-worst"
    assert all(row.robust <= row.logged["ce"] <= row.clean for row in record.curve)
    assert any(row.robust < row.logged["ce"] for row in record.curve), "the margin attack found nothing"
    assert record.best_epoch == max(record.curve, key=lambda row: (row.robust, row.clean, row.epoch)).epoch
    plain = run("pgd_at", tmp_path / "ce")
    assert [row.robust for row in plain.curve] == [row.logged["ce"] for row in record.curve], "starts are shared"
    assert "ce" not in plain.curve[0].logged


def test_the_protocol_decides_the_precision_and_hardware_without_it_trains_in_fp32(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(hardware, "_computes_in_bf16", lambda device: True)
    assert (hardware.precision(cpu, "fp32"), hardware.precision(cpu, "bf16")) == ("fp32", "bf16 autocast")
    monkeypatch.setattr(hardware, "_computes_in_bf16", lambda device: False)
    assert hardware.precision(cpu, "bf16") == "fp32"
    monkeypatch.undo()
    assert hardware.precision(cpu, "bf16") in {"fp32", "bf16 autocast"}


def test_the_guide_has_the_architecture_that_the_protocol_names(small_protocol):
    protocol = small_protocol()
    dataset = registry.load(protocol.data, download=False)

    def sizes(guide):
        named = dataclasses.replace(protocol, guide=guide)
        task = TrainingTask(named, dataset, torch.device("cpu"), Ledger(), {})
        nets = discovery.make("dynat").build(task)
        return [architectures.count_parameters(net) for net in (nets.target, nets.guide)]

    same, other = sizes(None), sizes("preactresnet18")
    assert same[0] == same[1] == other[0]
    assert other[1] > 10 * other[0]
