"""Architectures: sizes, costs, the names of the field, and torchvision beside a CPU-only torch."""

import importlib
import importlib.util
import subprocess
import sys

import pytest
import torch

from advbench.benchmark import torchvision_import
from advbench.benchmark.models import architectures, networks, swish_networks
from advbench.benchmark.models.pass_counter import Ledger

SIZES = [
    # network, classes, channels, side, parameters, FLOP of one forward
    ("preactresnet18", 10, 3, 32, 11_172_170, 1.111e9),
    ("preactresnet18", 200, 3, 64, 11_269_640, 4.44e9),
    ("resnet18", 10, 3, 32, 11_173_962, 1.111e9),
    ("wrn34-10", 10, 3, 32, 46_160_474, 13.32e9),
    ("wrn34-10", 100, 3, 64, 46_218_164, 53.27e9),
    ("resnet50", 1000, 3, 224, 25_557_032, 8.18e9),
    ("smallcnn", 10, 1, 8, 14_458, 461_440),
    ("preactresnet10-lite", 10, 3, 32, 308_378, 8.088e6),
    ("preactresnet18-swish", 10, 3, 32, 12_548_426, 1.2115e9),
    ("vit-tiny", 10, 3, 32, 5_362_762, 730.2e6),
    ("wrn28-10", 10, 3, 32, 36_479_194, 10.487e9),
    ("wrn28-10-swish", 10, 3, 32, 36_479_194, 10.487e9),
    ("wrn34-20", 10, 3, 32, 184_531_674, 53.164e9),
    ("wrn70-16", 10, 3, 32, 266_796_506, 77.53e9),
    ("wrn70-16-swish", 10, 3, 32, 266_796_506, 77.53e9),
]


@pytest.mark.parametrize("row", SIZES, ids=lambda row: f"{row[0]}-{row[3]}")
def test_sizes_are_the_published_ones(row):
    name, classes, channels, side, parameters, flops = row
    if name == "vit-tiny":
        pytest.importorskip("timm")  # its constructor reads values, so it cannot be built without memory
    with torch.device("cpu" if name == "vit-tiny" else "meta"):
        net = architectures.build(name, num_classes=classes, channels=channels)
    assert architectures.count_parameters(net) == parameters
    assert architectures.count_flops(net, (channels, side, side)) == pytest.approx(flops, rel=1e-3)


def test_sizes_cover_every_network():
    assert {row[0] for row in SIZES} == set(architectures.names())


def test_flops_of_smallcnn_by_hand():
    multiply_adds = 8 * 8 * 16 * 9 * 1 + 4 * 4 * 32 * 9 * 16 + 4 * 4 * 32 * 9 * 32 + 32 * 10
    net = architectures.build("smallcnn", num_classes=10, channels=1)
    assert architectures.count_flops(net, (1, 8, 8)) == 2 * multiply_adds


def test_counting_flops_is_no_work_and_changes_nothing():
    ledger = Ledger()
    net = ledger.watch(architectures.build("smallcnn", num_classes=10, channels=1))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    architectures.count_flops(net, (1, 8, 8))
    assert ledger.passes.forward == 0
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["preactresnet18", "resnet18", "smallcnn"])
@pytest.mark.parametrize("side", [32, 64])
def test_any_resolution_gives_logits(name, side):
    net = architectures.build(name, num_classes=7, channels=3).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 3, side, side)).shape == (2, 7)


@pytest.mark.parametrize("name", ["preactresnet18", "resnet18", "smallcnn"])
def test_channels_last_gives_the_same_logits(name):
    torch.manual_seed(0)
    net = architectures.build(name, num_classes=10, channels=3).eval()
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = net(x)
        net = net.to(memory_format=torch.channels_last)
        found = net(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["preactresnet18", "wrn34-10", "smallcnn"])
def test_weights_follow_the_global_seed(name):
    def weights(seed):
        torch.manual_seed(seed)
        return architectures.build(name, num_classes=10, channels=3).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_initialisations():
    torch.manual_seed(0)
    wide = architectures.build("wrn34-10", num_classes=10, channels=3).state_dict()
    weight = wide["block3.layer.1.conv1.weight"]  # 640 × 640 × 3 × 3: N(0, 2 / (9 · 640))
    assert float(weight.std()) == pytest.approx((2 / (9 * 640)) ** 0.5, rel=1e-2)
    assert not wide["fc.bias"].any()
    pre = architectures.build("preactresnet18", num_classes=10, channels=3).state_dict()
    weight = pre["layer4.1.conv1.weight"]  # U(±1/sqrt(fan in)), fan in 9 · 512
    assert float(weight.abs().max()) == pytest.approx((9 * 512) ** -0.5, rel=1e-3)
    assert float(weight.std()) == pytest.approx((9 * 512) ** -0.5 / 3**0.5, rel=1e-2)


def test_an_unknown_network_is_refused_with_the_names():
    with pytest.raises(architectures.NetworkError, match=r"no network 'vgg16'; there are .*preactresnet18, .*wrn34-10"):
        architectures.build("vgg16", num_classes=10, channels=3)


def test_resnet50_is_for_rgb():
    with pytest.raises(architectures.NetworkError, match="RGB"):
        architectures.build("resnet50", num_classes=10, channels=1)


def test_wide_depths_are_6n_plus_4():
    with pytest.raises(ValueError, match="6n"):
        networks.WideResNet(10, 3, depth=30, factor=10)


@pytest.mark.parametrize("name", ["preactresnet10-lite", "resnet18", "preactresnet18-swish", "resnet50", "vit-tiny"])
def test_the_head_makes_logits_of_features(name):
    if name == "vit-tiny":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    net = architectures.build(name, num_classes=10, channels=3).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = net.features(x)
        assert features.shape == (2, net.head.in_features)
        torch.testing.assert_close(net.head(features), net(x), rtol=0, atol=0)


def test_without_timm_the_transformer_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    with pytest.raises(architectures.NetworkError, match=r"pip install 'advbench\[vit\]'"):
        architectures.build("vit-tiny", num_classes=10, channels=3)


@pytest.fixture
def robustbench(monkeypatch):
    """RobustBench's architectures; it imports `autoattack`, which its dependency provides as `pyautoattack`."""
    if importlib.util.find_spec("robustbench") is None:
        pytest.skip("robustbench is not installed")
    torchvision_import.module()  # RobustBench imports torchvision by itself
    if importlib.util.find_spec("autoattack") is None:
        monkeypatch.setitem(sys.modules, "autoattack", importlib.import_module("pyautoattack"))
        monkeypatch.setitem(sys.modules, "autoattack.state", importlib.import_module("pyautoattack.state"))
    return importlib.import_module("robustbench.model_zoo.architectures")


def assert_same_logits(ours, theirs, images):
    """Load ours into theirs after some training has moved every buffer, and compare."""
    torch.manual_seed(1)
    x = torch.rand(images, 3, 32, 32)
    ours.train()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
        ours(x)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x), ours.eval()(x), rtol=1e-4, atol=1e-4)


def test_preactresnet18_loads_into_robustbench(robustbench):
    resnet = importlib.import_module("robustbench.model_zoo.architectures.resnet")
    theirs = resnet.PreActResNet(resnet.PreActBlockV2, [2, 2, 2, 2], num_classes=10, bn_before_fc=True)
    assert_same_logits(architectures.build("preactresnet18", num_classes=10, channels=3), theirs, 4)


def test_wide_resnets_load_into_robustbench(robustbench):
    wide = importlib.import_module("robustbench.model_zoo.architectures.wide_resnet")
    theirs = wide.WideResNet(depth=16, widen_factor=2, num_classes=10)
    assert_same_logits(networks.WideResNet(10, 3, depth=16, factor=2), theirs, 2)


def test_swish_networks_load_into_robustbench(robustbench):
    deepmind = importlib.import_module("robustbench.model_zoo.architectures.dm_wide_resnet")
    plain = {"num_classes": 10, "activation_fn": torch.nn.SiLU, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    theirs = deepmind.DMPreActResNet(**plain)
    assert_same_logits(architectures.build("preactresnet18-swish", num_classes=10, channels=3), theirs, 2)
    theirs = deepmind.DMWideResNet(depth=16, width=2, **plain)
    assert_same_logits(swish_networks.SwishWideResNet(10, 3, depth=16, factor=2), theirs, 2)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "try:\n    import torchvision\nexcept RuntimeError:\n    pass",
        "import advbench.benchmark.models.architectures",
    ],
    ids=["at once", "after a failed import", "after ours"],
)
def test_torchvision_imports_and_stays_imported(before):
    code = (
        f"{before}\nfrom advbench.benchmark import torchvision_import as vision\n"
        "models = vision.module('torchvision.models')\n"
        "import torchvision, torch\n"
        "assert torchvision.models is models and vision.module() is torchvision\n"
        "assert hasattr(torch.ops.torchvision, 'nms')\n"
        "from torchvision.datasets import CIFAR10\n"
    )
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], check=True, timeout=120)


def test_building_without_imagenet_leaves_torchvision_alone():
    code = (
        "import sys\nfrom advbench.benchmark.data import registry\n"
        "from advbench.benchmark.models import architectures as networks\n"
        "networks.build('wrn34-10', num_classes=10, channels=3)\n"
        "assert not [name for name in sys.modules if name.startswith('torchvision')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_torchvision_that_does_not_fit_is_an_import_error(monkeypatch):
    def fails(name):
        raise RuntimeError("operator torchvision::roi_align was compiled for another torch")

    monkeypatch.setattr(torchvision_import.importlib, "import_module", fails)
    with pytest.raises(ImportError, match="does not fit torch"):
        torchvision_import.module()
