"""The contract of every method file: found by discovery, so a new defense is held to it without being named here."""

import copy
import dataclasses
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from advbench.benchmark import checkpoint, discovery
from advbench.benchmark.method import Card

METHODS = discovery.names()
FAMILIES = re.search(r"family: (.*?)\n        code:", Card.__doc__ or "", re.DOTALL)


@pytest.fixture
def prepared(tiny_task, make_step, request):
    """Method, nets, task and step late in training, when every switch of every method is on."""
    method = discovery.make(request.param)
    task = tiny_task()
    torch.manual_seed(1)
    nets = method.build(task).double()
    step = make_step(nets, task, progress=0.95)
    return method, nets, task, step


every_method = pytest.mark.parametrize("prepared", METHODS, indirect=True)


@pytest.mark.parametrize("name", METHODS)
def test_the_card_is_complete(name):
    method = discovery.load(name)
    card = method.card
    assert re.fullmatch(r"[a-z][a-z0-9_]*", card.name)
    assert card.label
    assert card.title
    assert card.venue
    assert " and " in card.authors or "," in card.authors
    assert 2012 < card.year < 2030
    assert card.url.startswith("https://")
    assert re.fullmatch(r"[a-z]+[0-9]{4}[a-z0-9]*", card.key)
    assert FAMILIES
    assert f'"{card.family}"' in FAMILIES.group(1)
    assert re.search(r"\d+F", card.cost)
    for field in dataclasses.fields(method):
        assert field.metadata.get("source"), f"{name}.{field.name} names no source"


@pytest.mark.parametrize("name", METHODS)
def test_the_file_is_thin(name):
    """At most 60 lines of file for each adapter of one network, 100 for two (or with a teacher)."""
    method = discovery.load(name)
    module = Path(__import__(method.__module__, fromlist=["x"]).__file__)
    adapters = [other for other in map(discovery.load, METHODS) if other.__module__ == method.__module__]
    text = module.read_text(encoding="utf-8")
    wide = "Duo" in text or any(other.requires for other in adapters)
    assert len(text.splitlines()) <= (100 if wide else 60) * len(adapters)


@every_method
def test_the_loss_is_finite_and_moves_every_trained_parameter(prepared):
    method, nets, task, step = prepared
    trained = {name: p.detach().clone() for name, p in nets.named_parameters() if p.requires_grad}
    frozen = {name: p.detach().clone() for name, p in nets.named_parameters() if not p.requires_grad}
    with step.batch():
        method.update(nets, task.batch(), step)
    assert step.first_bad_batch() is None
    assert np.isfinite(step.means()["loss"])
    after = dict(nets.named_parameters())
    assert all(not torch.equal(after[name], value) for name, value in trained.items())
    assert all(torch.equal(after[name], value) for name, value in frozen.items())


@every_method
def test_the_target_is_what_is_deployed_and_receives_gradient(prepared):
    method, nets, task, step = prepared
    before = {name: value.clone() for name, value in method.deployed(nets).state_dict().items()}
    assert set(before) == set(task.network().state_dict()), "deployed is one network of the protocol, nothing else"
    for seed in range(3):
        with step.batch():
            method.update(nets, task.batch(seed=seed), step)
        with torch.no_grad():
            method.after_step(nets, step)
    with torch.no_grad():
        method.after_epoch(nets, step)
    after = method.deployed(nets).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before if after[name].is_floating_point())


@every_method
def test_the_inner_budget_is_obeyed(prepared):
    method, nets, task, step = prepared
    seen = []
    for name in ("craft", "single"):
        original = getattr(step, name)

        def spy(x, objective, *args, original=original, **kwargs):
            x_adv = original(x, objective, *args, **kwargs)
            seen.append((x, x_adv))
            return x_adv

        setattr(step, name, spy)
    batch = task.batch()
    task.ledger.reset()
    with step.batch():
        method.update(nets, batch, step)
    budget = 3 * len(batch.x) * max(1, len(method.requires) + 1)
    assert task.ledger.passes.input_gradient <= budget
    assert bool(seen) == method.card.robust
    own_step = any("own inner step" in note for note in method.card.notes)
    for x, x_adv in seen:
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
        assert own_step or (x_adv - x).abs().max() <= 0.1 + 1e-12


@every_method
def test_state_lives_in_the_nets_and_global_random_state_is_left_alone(prepared):
    method, nets, task, step = prepared
    fields = {field.name for field in dataclasses.fields(method)}
    random_states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    batch = task.batch()
    given = [part.clone() for part in batch]
    with step.batch():
        method.update(nets, batch, step)
    with torch.no_grad():
        method.after_step(nets, step)
        method.after_epoch(nets, step)
    assert set(vars(method)) == fields
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert random.getstate() == random_states[1]
    assert np.random.get_state()[1].tolist() == random_states[2]  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(given, batch, strict=True)), "a method must not write into its batch"
    other = copy.deepcopy(nets)
    other.load_state_dict(nets.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_weights_and_resume_is_bit_identical(name, run, tmp_path):
    """Killed after one and after three of four epochs (averages, memories and ramps are on by then)."""
    whole = run(name, tmp_path / "whole")
    assert whole.diverged is None
    assert whole.epochs == 4
    for until in (1, 3):
        folder = tmp_path / f"killed{until}"
        run(name, folder, until=until)
        assert not (folder / "last.safetensors").exists()
        resumed = run(name, folder)
        for file in ("best.safetensors", "last.safetensors"):
            assert checkpoint.sha256(folder / file) == checkpoint.sha256(tmp_path / "whole" / file)
        timeless = {"seconds", "images_per_second", "peak_memory_bytes"}
        rows = [[row.model_dump(exclude=timeless) for row in record.curve] for record in (whole, resumed)]
        assert rows[0] == rows[1]
    other = tmp_path / "other"
    run(name, other, seed=1)
    mine, theirs = (load_file(folder / "last.safetensors") for folder in (tmp_path / "whole", other))
    assert not any(torch.equal(mine[key], theirs[key]) for key in mine if mine[key].dim() == 4)
