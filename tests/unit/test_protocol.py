"""Protocols are read strictly, survive the trip through JSON, and are identified by what matters."""

import copy
import dataclasses
import json
import re
import tomllib
import typing
from fractions import Fraction
from pathlib import Path

import pytest

from advbench.benchmark.protocol import Protocol, ProtocolError, published, resolve

TEXT = (Path(__file__).resolve().parents[2] / "benchmark/protocols/cifar10-linf-1.toml").read_text(encoding="utf-8")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plain() -> dict:
    return tomllib.loads(TEXT)


def refusal(tmp_path: Path, text: str) -> str:
    """The message with which a file is refused: always one line that begins with the file."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProtocolError) as caught:
        Protocol.from_toml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


BAD = [
    ('eps = "8/255"', "eps = 0.031", "threat.eps", "exact fraction"),
    ('eps = "8/255"', 'eps = "0.031 or so"', "threat.eps", "exact fraction"),
    ('eps = "8/255"', 'eps = "8/0"', "threat.eps", "exact fraction"),
    ('eps = "8/255"', "eps = true", "threat.eps", "exact fraction"),
    ('eps = "8/255"', "eps = 0", "threat.eps", "above 0"),
    ('eps = "8/255"', 'eps = "9/8"', "threat", "(0, 1]"),
    ('eps = "8/255"', "", "threat.eps", "missing"),
    ('norm = "linf"', 'norm = "l1"', "threat.norm", "linf"),
    ("inner = { steps = 10", "inner = { steps = -10", "training.inner.steps", "greater than 0"),
    ('inner = { steps = 10, step = "2/255"', 'inner = { steps = 10, step = "-2/255"', "training.inner.step", "above 0"),
    ("inner = { steps = 10", "inner = { steps = 10.0", "training.inner.steps", "integer"),
    ("inner = { steps = 10", 'inner = { steps = "10"', "training.inner.steps", "integer"),
    ("epochs = 200", "epochs = 0", "training.epochs", "greater than 0"),
    ("epochs = 200", "epochs = 150", "training", "beyond the 150 epochs"),
    ("epochs = 200", "", "training.epochs", "missing"),
    ("epochs = 200", "epochs = 200\nepoch = 3", "training.epoch", "unknown key"),
    ("batch = 128", "batch = true", "training.batch", "integer"),
    ("peak = 0.1", "peak = -0.1", "training.schedule.peak", "greater than 0"),
    ("peak = 0.1", "peak = inf", "training.schedule.peak", "finite"),
    ("peak = 0.1", "peak = nan", "training.schedule.peak", "finite"),
    ("drops = [100, 150]", "drops = [150, 100]", "training.schedule", "increasing"),
    ('kind = "piecewise"', 'kind = "one-cycle"', "training.schedule", "no drops"),
    ('kind = "piecewise"', 'kind = "cosine"', "training.schedule.kind", "piecewise"),
    ('cw = { steps = 20, step = "2/255" }', "", "attacks.cw", "missing"),
    ('autoattack = { version = "standard" }', "", "attacks.autoattack", "missing"),
    ('version = "standard"', 'version = "rand"', "attacks.autoattack.version", "standard"),
    ('pgd20 = { steps = 20, step = "2/255" }', 'pgd20 = { steps = 20, step = "1/255" }', "attacks", "must be equal"),
    ("pgd20 = { steps = 20", "pgd20 = { steps = 100", "attacks", "below pgd100.steps"),
    ("shard = 400", "shard = 0", "attacks.shard", "greater than 0"),
    ('network = "preactresnet18"', "", "network", "missing"),
    ('network = "preactresnet18"', 'network = "preactresnet18"\nseeds = []', "protocol", "seeds"),
    ('network = "preactresnet18"', 'network = "preactresnet18"\nseeds = [0, 0]', "protocol", "seeds"),
    ('network = "preactresnet18"', 'network = "preactresnet18"\nseeds = [-1]', "seeds.0", "greater than or equal to 0"),
    ("validation = 1000", "validation = 0", "data.validation", "greater than 0"),
    ("validation = 1000", "validation = 1000\nvalidaton = 3", "data.validaton", "unknown key"),
    ('augment = "crop-flip"', 'augment = "cutout"', "data.augment", "crop-flip"),
    ("[selection]", "[selektion]", "selektion", "unknown key"),
]


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"), BAD, ids=[f"{key}-{number}" for number, (*_, key, _) in enumerate(BAD)]
)
def test_a_mistake_gets_one_line_naming_file_and_key(tmp_path, old, new, key, reason):
    assert old in TEXT
    message = refusal(tmp_path, TEXT.replace(old, new, 1))
    said = [part for part in message.split("; ") if part.startswith(f"{key}: ")]
    assert said, message
    assert reason in said[0]


def test_every_mistake_is_named_at_once(tmp_path):
    text = TEXT.replace('eps = "8/255"', "eps = 0.031").replace("epochs = 200", "epochs = 0")
    message = refusal(tmp_path, text)
    assert "threat.eps" in message
    assert "training.epochs" in message


def test_what_is_not_toml_or_not_there_is_refused(tmp_path):
    assert "not valid TOML" in refusal(tmp_path, "name = ")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProtocolError, match=r"bytes\.toml: not UTF-8"):
        Protocol.from_toml(tmp_path / "bytes.toml")
    with pytest.raises(ProtocolError, match=r"none\.toml: cannot be read"):
        Protocol.from_toml(tmp_path / "none.toml")
    with pytest.raises(ProtocolError, match="cannot be read"):
        Protocol.from_toml(tmp_path)


@pytest.mark.parametrize("value", [None, 3, [], "text"])
def test_plain_data_of_another_shape_is_refused(value):
    with pytest.raises(ProtocolError, match=r"^job: protocol: ") as caught:
        Protocol.from_plain(value, "job")
    assert "\n" not in str(caught.value)


def test_eps_is_exact(plain):
    assert Protocol.from_plain(plain).threat.eps == Fraction(8, 255)


@pytest.mark.parametrize("name", sorted(published()))
def test_canonical_data_reads_back_to_the_same_protocol(name):
    protocol = published()[name]
    through_json = json.loads(json.dumps(protocol.canonical()))
    again = Protocol.from_plain(through_json)
    assert again == protocol
    assert again.digest == protocol.digest


def test_the_digest_ignores_prose_and_the_order_of_keys(plain):
    first = Protocol.from_plain(plain)
    turned = {key: plain[key] for key in reversed(plain)}
    turned["training"] = {key: plain["training"][key] for key in reversed(plain["training"])}
    turned["summary"] = "Said differently."
    second = Protocol.from_plain(turned)
    assert second.digest == first.digest
    assert re.fullmatch("[0-9a-f]{64}", first.digest)


def test_the_digest_ignores_how_a_value_is_written(plain):
    written = copy.deepcopy(plain)
    written["threat"]["eps"] = "16/510"
    written["seeds"] = [0, 1, 2]
    written["training"]["momentum"] = 0.9
    assert Protocol.from_plain(written).digest == Protocol.from_plain(plain).digest


def leaves(value: object, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    return [path]


def test_the_digest_depends_on_everything_else(plain):
    """Every number of the canonical form, defaults included, is part of the identity."""
    protocol = Protocol.from_plain(plain)
    canonical = protocol.canonical()
    tried = 0
    for path in leaves(canonical):
        changed = copy.deepcopy(canonical)
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        value = holder[path[-1]]
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        holder[path[-1]] = value * 2 if path[-1] in {"epochs", "steps"} and "pgd20" not in path else value + 1
        assert Protocol.from_plain(changed).digest != protocol.digest, path
        tried += 1
    assert tried > 25


LIST = {"file": "some-images.txt", "sha256": "0" * 64, "images": 3}
CHOICES = {
    ("selection", "measure"): ("ce", "worst"),
    ("training", "precision"): ("fp32", "bf16"),
    ("training", "inner", "ceiling"): ("1", "3/2"),
    ("attacks", "engine"): ("pyautoattack", "exact"),
    ("training", "tuned_lr"): ([0.05, 0.1, 0.2], [0.1]),
    ("training", "tuned_weight_decay"): ([2e-4, 5e-4, 1e-3, 3.5e-3], [5e-4]),
    ("guide",): (None, "resnet18"),
    ("teachers",): ((), [{"role": "robust", "file": "a.pt", "sha256": "0" * 64, "network": "wrn34-10"}]),
    ("flags", "convergence_every"): (0, 50),
    ("flags", "convergence_targets"): (3, 9),
    ("flags", "convergence_restarts"): (5, 6),
    ("flags", "convergence_iterations"): (500, 400),
    ("data", "train_list"): (None, LIST),
    ("data", "test_list"): (None, LIST),
    ("data", "side"): (None, 32),
    ("data", "extra"): (None, {"file": "edm.npz", "sha256": "0" * 64, "images": 9, "share": "7/10"}),
}
"""Choices that the first protocols did not have: (default, another)."""


@pytest.mark.parametrize("path", CHOICES, ids=".".join)
def test_a_choice_that_came_later_changes_no_digest_until_it_is_used(plain, path):
    """Its default is left out of the canonical JSON: whoever adds one moves no published digest, and no record."""
    default, other = CHOICES[path]
    digest = Protocol.from_plain(plain).digest

    def chosen(value):
        changed = Protocol.from_plain(plain).canonical()
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        return Protocol.from_plain(changed)

    assert chosen(default).digest == digest
    assert path not in leaves(chosen(default).canonical())
    assert chosen(other).digest != digest
    assert any(leaf[: len(path)] == path for leaf in leaves(chosen(other).canonical()))
    assert Protocol.from_plain(json.loads(json.dumps(chosen(other).canonical()))) == chosen(other)


def test_every_choice_beyond_those_of_the_first_protocols_is_one_that_came_later(plain):
    """A key that stands in no canonical JSON of version 1 must be left out at its default."""
    there = set(leaves(Protocol.from_plain(plain).canonical()))
    assert set(fields_of(Protocol)) - there == set(CHOICES)


def fields_of(kind: type, path: tuple = ()) -> list[tuple]:
    hints = typing.get_type_hints(kind)
    return [
        leaf
        for field in dataclasses.fields(kind)
        for leaf in (
            fields_of(hints[field.name], (*path, field.name))
            if dataclasses.is_dataclass(hints[field.name])
            else [(*path, field.name)]
        )
    ]


def test_another_name_or_network_is_another_protocol(plain):
    digest = Protocol.from_plain(plain).digest
    assert Protocol.from_plain({**plain, "name": "mine"}).digest != digest
    assert Protocol.from_plain({**plain, "network": "wrn34-10"}).digest != digest


def test_protocols_cannot_be_changed(plain):
    protocol = Protocol.from_plain(plain)
    with pytest.raises(AttributeError):
        protocol.network = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        protocol.training.epochs = 1  # type: ignore[misc]


def test_resolve_by_full_name_short_name_and_file(tmp_path):
    assert resolve("cifar10-linf/1") is published()["cifar10-linf/1"]
    assert resolve("cifar10-linf") is published()["cifar10-linf/2"]
    assert resolve("cifar10-linf-short").name == "cifar10-linf-short/2"
    path = tmp_path / "mine.toml"
    path.write_text(TEXT, encoding="utf-8")
    assert resolve(str(path)) == published()["cifar10-linf/1"]


def test_a_short_name_means_the_newest_version(monkeypatch):
    known = {f"x/{version}": published()["cifar10-linf/1"] for version in (2, 9)}
    newest = published()["digits-linf/1"]
    monkeypatch.setattr("advbench.benchmark.protocol.published", lambda: {**known, "x/10": newest})
    assert resolve("x") is newest


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("cifar11-linf", "cifar10-linf"),
        ("cifar10-linf/99", "cifar10-linf"),
        ("", "digits-linf/1"),
        ("x", "digits-linf/1"),
    ],
)
def test_an_unknown_name_names_the_nearest_or_all_published_ones(reference, named):
    with pytest.raises(ProtocolError, match=re.escape(repr(reference))) as caught:
        resolve(reference)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_published_protocol_to_the_last_digit_is_official(plain):
    assert Protocol.from_plain({**plain, "summary": "mine"}).official
    plain["training"]["epochs"] = 199
    assert not Protocol.from_plain(plain).official


def test_slug_is_a_folder_name():
    assert published()["cifar10-linf/1"].slug == "cifar10-linf-1"


def test_evaluation_and_training_step_are_a_quarter_of_eps():
    for name, protocol in published().items():
        for budget in (protocol.training.inner, protocol.selection, protocol.attacks.pgd20, protocol.attacks.cw):
            assert budget.step == protocol.threat.eps / 4, name


@pytest.mark.parametrize(
    "name", ["cifar10-linf/1", "cifar10-linf/2", "cifar10-linf/99", "CIFAR10-linf/1", "cifar10-linf-7", "digits-linf"]
)
def test_a_protocol_of_the_user_may_not_take_a_published_name(tmp_path, name):
    """Its boards would be written over the official ones."""
    text = (ROOT / "benchmark/protocols/cifar10-linf-1.toml").read_text(encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text(
        text.replace('"cifar10-linf/1"', f'"{name}"').replace("epochs = 200", "epochs = 199"), encoding="utf-8"
    )
    with pytest.raises(ProtocolError, match=r"mine\.toml: name: .* belongs to the published protocols"):
        resolve(str(file))


def test_a_copy_of_a_published_protocol_is_that_protocol(tmp_path):
    file = tmp_path / "copy.toml"
    file.write_bytes((ROOT / "benchmark/protocols/cifar10-linf-1.toml").read_bytes())
    assert resolve(str(file)).official
