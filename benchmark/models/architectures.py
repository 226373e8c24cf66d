"""Network architectures for inputs in [0,1]: PreActResNet-18, ResNet-18, WideResNet-34-10, ResNet-50, SmallCNN.

No network normalises its input. All end in global average pooling, so 32 and 64 px take the same weights. Names in the
state dicts are the field's: weights of `preactresnet18` load into RobustBench's
`PreActResNet(PreActBlockV2, [2, 2, 2, 2], bn_before_fc=True)`, weights of `wrn34-10` into its `WideResNet(34, 10)`, and
give the same logits there.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advbench.benchmark import torchvision_import

conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
conv1x1 = partial(nn.Conv2d, kernel_size=1, bias=False)


class NetworkError(ValueError):
    """A network that cannot be built; the message is one line."""


def pool(features: Tensor) -> Tensor:
    """Average (B, C, H, W) over all pixels to (B, C)."""
    return F.adaptive_avg_pool2d(features, 1).flatten(1)


class PreActBlock(nn.Module):
    """BN, ReLU, convolution, twice (He et al. 2016, arXiv:1603.05027); a projection reads the activated input."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = conv3x3(width_in, width, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.shortcut = None
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(conv1x1(width_in, width, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual branch to x or its projection."""
        active = F.relu(self.bn1(x))
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return residual + (x if self.shortcut is None else self.shortcut(active))


class BasicBlock(nn.Module):
    """Convolution, BN, ReLU, convolution, BN, sum, ReLU (He et al. 2015, arXiv:1512.03385), projections with BN."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(width_in, width, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(conv1x1(width_in, width, stride=stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual branch to x or its projection, then activate."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


class WideBlock(nn.Module):
    """Block of a wide ResNet (Zagoruyko and Komodakis 2016, arXiv:1605.07146), without dropout."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = conv3x3(width_in, width, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.convShortcut = None if width_in == width else conv1x1(width_in, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual branch to x or to the projection of the activated x."""
        active = F.relu(self.bn1(x))
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return residual + (x if self.convShortcut is None else self.convShortcut(active))


Block = Callable[[int, int, int], nn.Module]


def stage(block: Block, width_in: int, width: int, *, blocks: int, stride: int) -> nn.Sequential:
    """Stack blocks; the first one changes width and resolution."""
    first = block(width_in, width, stride)
    return nn.Sequential(first, *(block(width, width, 1) for _ in range(blocks - 1)))


class ResNet18(nn.Module):
    """ResNet-18 as CIFAR has it: 3×3 stem without pooling, widths 64 to 512. Torch's default initialisation."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(BasicBlock, 64, 64, blocks=2, stride=1)
        self.layer2 = stage(BasicBlock, 64, 128, blocks=2, stride=2)
        self.layer3 = stage(BasicBlock, 128, 256, blocks=2, stride=2)
        self.layer4 = stage(BasicBlock, 256, 512, blocks=2, stride=2)
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, H, W)."""
        features = F.relu(self.bn1(self.conv1(x)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.linear(pool(features))
        return logits


class PreActResNet18(nn.Module):
    """PreActResNet-18 as robust overfitting (Rice et al. 2020) and AWP train it: BN and ReLU before the pooling.

    Torch's default initialisation: weights U(±1/sqrt(fan_in)), which is Kaiming's uniform with a = sqrt(5).
    """

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, 64)
        self.layer1 = stage(PreActBlock, 64, 64, blocks=2, stride=1)
        self.layer2 = stage(PreActBlock, 64, 128, blocks=2, stride=2)
        self.layer3 = stage(PreActBlock, 128, 256, blocks=2, stride=2)
        self.layer4 = stage(PreActBlock, 256, 512, blocks=2, stride=2)
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, H, W)."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        logits: Tensor = self.linear(pool(F.relu(self.bn(features))))
        return logits


class WideStage(nn.Module):
    """One stage of a wide ResNet under the name that the field's checkpoints have (`block1.layer.0…`)."""

    def __init__(self, width_in: int, width: int, *, blocks: int, stride: int) -> None:
        super().__init__()
        self.layer = stage(WideBlock, width_in, width, blocks=blocks, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks in turn."""
        features: Tensor = self.layer(x)
        return features


class WideResNet(nn.Module):
    """WideResNet-depth-factor as TRADES has it, without its unused `sub_block1`.

    Initialisation of that release: convolutions N(0, 2/(k²·width_out)) (Kaiming's normal, fan out), BN 1 and 0, the
    linear layer torch's default with zero bias.
    """

    def __init__(self, num_classes: int, channels: int, *, depth: int, factor: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise NetworkError(f"the depth of a wide ResNet is 6n + 4, not {depth}")
        widths = [16 * factor, 32 * factor, 64 * factor]
        self.conv1 = conv3x3(channels, 16)
        self.block1 = WideStage(16, widths[0], blocks=blocks, stride=1)
        self.block2 = WideStage(widths[0], widths[1], blocks=blocks, stride=2)
        self.block3 = WideStage(widths[1], widths[2], blocks=blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
                nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, H, W)."""
        features = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(pool(F.relu(self.bn1(features))))
        return logits


class SmallCNN(nn.Module):
    """Three 3×3 convolutions (16, 32 with stride 2, 32), each with BN and ReLU, for 8×8 digits. Torch's defaults."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = conv3x3(16, 32, stride=2)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = conv3x3(32, 32)
        self.bn3 = nn.BatchNorm2d(32)
        self.linear = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, H, W)."""
        features = F.relu(self.bn1(self.conv1(x)))
        features = F.relu(self.bn2(self.conv2(features)))
        features = F.relu(self.bn3(self.conv3(features)))
        logits: Tensor = self.linear(pool(features))
        return logits


def resnet50(num_classes: int, channels: int) -> nn.Module:
    """Return torchvision's ResNet-50 for ImageNet, untrained (convolutions Kaiming normal, fan out).

    Raises:
        NetworkError: if the images are not RGB.
    """
    if channels != 3:
        raise NetworkError(f"resnet50 takes RGB images, not {channels} channels")
    net: nn.Module = torchvision_import.module("torchvision.models").resnet50(weights=None, num_classes=num_classes)
    return net


_ARCHITECTURES: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {
        "preactresnet18": PreActResNet18,
        "resnet18": ResNet18,
        "resnet50": resnet50,
        "smallcnn": SmallCNN,
        "wrn34-10": partial(WideResNet, depth=34, factor=10),
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
