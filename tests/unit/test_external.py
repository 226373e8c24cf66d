import importlib.util
import sys
import warnings

import pytest
import torch
from torch import nn

from advbench.benchmark.attacks.sign_ascent import input_gradient
from advbench.benchmark.attacks.wrapped_network import View, frozen
from advbench.benchmark.files import file_sha256
from advbench.benchmark.models import architectures, external, weight_files
from advbench.benchmark.models.external import ExternalError, OpenedNetwork, Origin, Workload, check, open_network
from advbench.benchmark.models.external_network import ExternalNetwork

DIGITS = Workload("digits", 10, (1, 8, 8))
CIFAR = Workload("cifar10", 10, (3, 32, 32))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return architectures.build("smallcnn", num_classes=10, channels=1).eval()


def refused(reference, workload=DIGITS, **given) -> str:
    with pytest.raises(ExternalError) as caught:
        open_network(str(reference), workload, **given)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("nest", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_weights_in_the_fields_usual_wrappings_give_the_same_logits(net, tmp_path, nest, prefix):
    path = tmp_path / "net.pt"
    torch.save(nest({f"{prefix}{key}": value for key, value in net.state_dict().items()}), path)
    opened = open_network(str(path), DIGITS, architecture="smallcnn")
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(opened.network(x), net(x))
    assert (opened.origin.kind, opened.origin.sha256) == ("weights", file_sha256(path))


def test_safetensors_give_the_same_logits(net, tmp_path):
    path = tmp_path / "net.safetensors"
    weight_files.save_weights(net, path)
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(open_network(str(path), DIGITS, architecture="smallcnn").network(x), net(x))


def test_opening_leaves_the_random_state_alone(net, tmp_path):
    path = tmp_path / "net.safetensors"
    weight_files.save_weights(net, path)
    before = torch.get_rng_state()
    open_network(str(path), DIGITS, architecture="smallcnn")
    assert torch.equal(torch.get_rng_state(), before)


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "evil.pt")
    assert "is not run" in refused(tmp_path / "evil.pt", architecture="smallcnn")
    assert not (tmp_path / "sprung").exists()


def renamed(state, *prefixes):
    return {f"{prefix}{key}": value for prefix in prefixes for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {key: value for key, value in state.items() if "num_batches_tracked" not in key},
        lambda state: renamed(state, "model."),
        lambda state: {"model": renamed(state, "module.model.", "module.attacker.model.")},
        lambda state: {"state_dict": renamed(state, "module.network.")},
        lambda state: {**state, "sub_block1.layer.0.bn1.weight": torch.ones(3)},
    ],
    ids=["torch-0.4.0", "lightning", "robustness", "data-parallel", "trades"],
)
def test_state_dicts_as_public_code_writes_them_are_loaded(net, tmp_path, wrap):
    path = tmp_path / "net.pt"
    torch.save(wrap(net.state_dict()), path)
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(open_network(str(path), DIGITS, architecture="smallcnn").network(x), net(x))


def test_a_file_is_read_by_what_it_is_not_by_its_suffix(net, tmp_path):
    weight_files.save_weights(net, tmp_path / "safe.pt")
    torch.save(net.state_dict(), tmp_path / "pickled.safetensors")
    x = torch.rand(4, 1, 8, 8)
    for name in ("safe.pt", "pickled.safetensors"):
        assert torch.equal(open_network(str(tmp_path / name), DIGITS, architecture="smallcnn").network(x), net(x))


@pytest.mark.parametrize(
    ("beside", "text"),
    [
        (
            {"module.normalizer.new_mean": torch.zeros(1)},
            "below 'module.model.' in a wrapper, beside module.norm",
        ),
        ({"ema.linear.bias": torch.ones(10)}, "beside ema.linear.bias"),
    ],
)
def test_what_a_wrapper_would_compute_is_not_left_out_in_silence(net, tmp_path, beside, text):
    torch.save(renamed(net.state_dict(), "module.model.") | beside, tmp_path / "net.pt")
    message = refused(tmp_path / "net.pt", architecture="smallcnn")
    assert text in message
    assert "another architecture" not in message


def test_weights_that_do_not_fit_are_said_in_one_line(net, tmp_path):
    path = tmp_path / "net.safetensors"
    weight_files.save_weights(net, path)
    assert "--architecture" in refused(path)
    assert "no network 'vgg'" in refused(path, architecture="vgg")
    assert "another architecture" in refused(path, architecture="resnet18")
    assert "other classes: linear" in refused(path, Workload("digits", 7, (1, 8, 8)), architecture="smallcnn")
    state = net.state_dict()
    del state["bn2.weight"]
    torch.save(state, tmp_path / "short.pt")
    assert "it lacks bn2.weight (1 of " in refused(tmp_path / "short.pt", architecture="smallcnn")
    torch.save({**net.state_dict(), "linear.bias": torch.full((10,), float("nan"))}, tmp_path / "nan.pt")
    assert "not finite, in linear.bias" in refused(tmp_path / "nan.pt", architecture="smallcnn")
    (tmp_path / "torn.safetensors").write_bytes(path.read_bytes()[:500])
    assert "not a readable safetensors" in refused(tmp_path / "torn.safetensors", architecture="smallcnn")
    (tmp_path / "noise.pt").write_bytes(b"nonsense")
    refused(tmp_path / "noise.pt", architecture="smallcnn")
    for number, odd in enumerate(([1, 2], {1: torch.ones(1)}, {"state_dict": {}})):
        torch.save(odd, tmp_path / f"odd{number}.pt")
        assert "no state dict" in refused(tmp_path / f"odd{number}.pt", architecture="smallcnn")


def test_code_of_the_user_is_called_and_named_so(tmp_path, monkeypatch):
    text = (
        "from torch import nn\ndef net(): return nn.Flatten()\ndef no(): return 1\ndef bad(): raise OSError('disk')\n"
    )
    (tmp_path / "own_defense.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    for reference in ("own_defense.py:net", "own_defense:net"):
        opened = open_network(reference, DIGITS)
        assert isinstance(opened.network.network, nn.Flatten)
        assert "user's own code" in opened.origin.text
    assert "returned int" in refused("own_defense.py:no")
    assert "bad() raised OSError: disk" in refused("own_defense.py:bad")
    assert "raised ModuleNotFoundError" in refused("no_such_module:net")
    assert "no such file" in refused("absent.safetensors")


def test_code_of_the_user_imports_its_neighbours(tmp_path, monkeypatch):
    (tmp_path / "faults_parts.py").write_text("from torch import nn\nlate = nn.Flatten\n", encoding="utf-8")
    (tmp_path / "whole.py").write_text("def net():\n    import faults_parts\n    return faults_parts.late()\n")
    monkeypatch.setattr("sys.path", [*sys.path])
    assert isinstance(open_network(f"{tmp_path}/whole.py:net", DIGITS).network.network, nn.Flatten)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(_context, x):
        return x.round()


class Public(nn.Module):
    """A network as public code has it, with one of its habits."""

    def __init__(self, habit):
        super().__init__()
        self.habit = habit
        self.conv = nn.Conv2d(1, 4, 3)
        self.linear = nn.Linear(144, 10)

    def train(self, mode=True):
        super().train(mode)
        return None if self.habit == "train without return" else self

    def forward(self, x):
        if self.habit == "in place":
            x.data.round_().mul_(0.5).add_(0.25)
        if self.habit == "asserts without gradients" and torch.is_grad_enabled():
            raise AssertionError("no gradients here")
        x = self.conv(x)
        x = x.view(len(x), -1)
        return self.linear(Rounded.apply(x) if self.habit == "no backward" else x)


def opened_public(habit):
    torch.manual_seed(0)
    network = ExternalNetwork(Public(habit)).to("cpu").eval()
    return OpenedNetwork(network, Origin("it", "code"))


@pytest.mark.parametrize("habit", ["in place", "train without return", "none"])
def test_habits_of_public_code_do_no_harm(habit):
    opened, x = opened_public(habit), torch.rand(3, 8, 8, 1).permute(0, 3, 1, 2)
    before = x.clone()
    assert check(opened, DIGITS, x) is None
    assert not opened.network.network.conv.training
    assert torch.equal(x, before)
    assert input_gradient(lambda z: View(opened.network)(z).sum(), x).abs().sum() > 0


def quantised():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize("habit", ["no backward", "asserts without gradients", "quantised"])
def test_a_network_without_a_backward_pass_has_a_zero_gradient(habit):
    opened = opened_public(habit)
    if habit == "quantised":
        opened.network.network = quantised()
    x = torch.rand(3, 1, 8, 8)
    assert check(opened, DIGITS, x)
    with frozen(opened.network):
        assert input_gradient(lambda z: View(opened.network)(z).sum(), x).abs().sum() == 0


class Constant(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits.expand(len(x), *self.logits.shape)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Constant(torch.full((10,), float("nan"))), "NaN or infinite"),
        (Constant(torch.zeros(9)), "has 9 classes, digits has 10"),
        (Constant(torch.zeros(10, 2)), "must give logits (3, classes), it gives (3, 10, 2)"),
        (nn.Conv2d(3, 10, 3), "does not take images (3, 1, 8, 8)"),
        (Constant([0.0]), "does not take images"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Unflatten(0, (3,))), "does not take images (1, 1, 8, 8)"),
    ],
)
def test_a_network_that_cannot_be_attacked_is_refused_on_three_images(network, said):
    with pytest.raises(ExternalError) as caught:
        check(OpenedNetwork(network, Origin("it", "code")), DIGITS, torch.rand(3, 1, 8, 8))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_outside_the_unit_range_are_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ExternalError, match=r"must be in \[0,1\]"):
        check(OpenedNetwork(net, Origin("it", "code")), DIGITS, 2 * torch.ones(3, 1, 8, 8))


def test_a_zoo_model_is_loaded_by_robustbenchs_own_code_from_a_local_file(tmp_path, monkeypatch):
    if importlib.util.find_spec("robustbench") is None:
        pytest.skip("robustbench is not installed")
    loading = external.robustbench.robustbench("utils")
    torch.manual_seed(0)
    made = external.robustbench.robustbench("model_zoo.architectures.wide_resnet").WideResNet(10, 10, 1)
    factory = type(made)
    small = {"Small2026Test": {"model": lambda: factory(10, 10, 1), "gdrive_id": "x"}}
    models = {
        key: {threat: {**found, **small} for threat, found in value.items()}
        for key, value in loading.all_models.items()
    }
    monkeypatch.setattr(loading, "all_models", models)
    monkeypatch.setattr(loading, "download_gdrive_new", lambda *_: pytest.fail("it wanted to download"))
    path = tmp_path / "any-name.pt"
    torch.save({"state_dict": {f"module.{key}": value for key, value in made.state_dict().items()}}, path)
    opened = open_network("zoo:Small2026Test", CIFAR, weights=path)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.network(x), made.eval()(x))
    assert opened.origin.architecture == "Small2026Test (Linf)"
    assert "nothing is downloaded" in refused("zoo:Small2026Test", CIFAR)
    assert "no such file" in refused("zoo:Small2026Test", CIFAR, weights=tmp_path / "absent.pt")
    torch.save(architectures.build("smallcnn", num_classes=10, channels=1).state_dict(), tmp_path / "other.pt")
    assert "not a checkpoint of Small2026Test" in refused("zoo:Small2026Test", CIFAR, weights=tmp_path / "other.pt")
    assert "did you mean Small2026Test" in refused("zoo:Small2026Tests", CIFAR)
