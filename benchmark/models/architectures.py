"""Architectures by name, with what they cost: parameters and FLOPs of one forward.

What a network is stands in `networks` and `swish_networks`; ResNet-50 is torchvision's, the vision transformer timm's.
All take inputs in [0,1] and offer `features` (penultimate activations), see `networks.Classifier`.
"""

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advbench.benchmark import torchvision_import
from advbench.benchmark.models.networks import PreActResNet, ResNet18, SmallCNN, WideResNet
from advbench.benchmark.models.swish_networks import SwishPreActResNet18, SwishWideResNet


class NetworkError(ValueError):
    """A network that cannot be built; the message is one line."""


def resnet50(num_classes: int, channels: int) -> nn.Module:
    """Return torchvision's ResNet-50 for ImageNet, untrained (convolutions Kaiming normal, fan out).

    Raises:
        NetworkError: if the images are not RGB.
    """
    if channels != 3:
        raise NetworkError(f"resnet50 takes RGB images, not {channels} channels")
    resnet = torchvision_import.module("torchvision.models.resnet")

    class ResNet50(resnet.ResNet):  # type: ignore[misc, name-defined]  # imported late
        def features(self, x: Tensor) -> Tensor:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            return self.avgpool(self.layer4(self.layer3(self.layer2(self.layer1(x))))).flatten(1)  # type: ignore[no-any-return]  # torchvision's layers are untyped here

        @property
        def head(self) -> nn.Module:
            return self.fc  # type: ignore[no-any-return]  # as above

    net: nn.Module = ResNet50(resnet.Bottleneck, [3, 4, 6, 3], num_classes=num_classes)
    return net


def vit_tiny(num_classes: int, channels: int) -> nn.Module:
    """Return timm's ViT-Ti (width 192, 12 blocks, 3 heads) on patches of 4×4 pixels, untrained.

    Sizes: DeiT (Touvron et al. 2021, arXiv:2012.12877); patches of 4 for 32 px as adversarial training of vision
    transformers has them (Mo et al. 2022, arXiv:2210.07540). Position embeddings are interpolated at other sizes.

    Raises:
        NetworkError: if timm is not installed.
    """
    try:
        torchvision_import.module()  # timm imports torchvision by itself
        timm = importlib.import_module("timm.models.vision_transformer")
    except ImportError as error:
        raise NetworkError(f"vit-tiny needs timm ({error}); pip install 'advbench[vit]'") from None

    class VisionTransformer(timm.VisionTransformer):  # type: ignore[misc, name-defined]  # timm is imported late
        def features(self, x: Tensor) -> Tensor:
            return self.forward_head(self.forward_features(x), pre_logits=True)  # type: ignore[no-any-return]  # untyped

    sizes = {"img_size": 32, "patch_size": 4, "embed_dim": 192, "depth": 12, "num_heads": 3}
    net: nn.Module = VisionTransformer(in_chans=channels, num_classes=num_classes, dynamic_img_size=True, **sizes)
    return net


_ARCHITECTURES: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {
        "preactresnet10-lite": partial(PreActResNet, width=16, blocks=1, stride=2),
        "preactresnet18": PreActResNet,
        "preactresnet18-swish": SwishPreActResNet18,
        "resnet18": ResNet18,
        "resnet50": resnet50,
        "smallcnn": SmallCNN,
        "vit-tiny": vit_tiny,
        "wrn28-10": partial(WideResNet, depth=28, factor=10),
        "wrn28-10-swish": partial(SwishWideResNet, depth=28, factor=10),
        "wrn34-10": partial(WideResNet, depth=34, factor=10),
        "wrn34-20": partial(WideResNet, depth=34, factor=20),
        "wrn70-16": partial(WideResNet, depth=70, factor=16),
        "wrn70-16-swish": partial(SwishWideResNet, depth=70, factor=16),
    }
)


def names() -> tuple[str, ...]:
    """Return the names that `build` knows."""
    return tuple(_ARCHITECTURES)


def build(name: str, *, num_classes: int, channels: int) -> nn.Module:
    """Make an untrained network; its weights are drawn from torch's global generator, which the caller seeds.

    Raises:
        NetworkError: if there is no such network, or it cannot take these images; one line.
    """
    if name not in _ARCHITECTURES:
        raise NetworkError(f"no network {name!r}; there are {', '.join(names())}")
    return _ARCHITECTURES[name](num_classes, channels)


def count_parameters(net: nn.Module) -> int:
    """Return the number of parameters, frozen ones included, buffers not."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_flops(net: nn.Module, shape: Sequence[int]) -> int:
    """Return the floating-point operations of one forward of one image of shape (C, H, W).

    Convolutions and matrix products alone, a multiply-add is two: PreActResNet-18 at 32 px is 1.111e9. Nothing is
    computed (meta tensors), and hooks of `net` itself are not called: a forward counted here is no work done.
    """
    shadow = copy.deepcopy(net).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow.forward(torch.empty(1, *shape, device="meta"))
    return int(counter.get_total_flops())
