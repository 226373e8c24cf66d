"""Networks of ReLU blocks for inputs in [0,1]: PreActResNet, ResNet-18, wide ResNet, SmallCNN.

No network normalises its input. All end in global average pooling, so 32 and 64 px take the same weights. Names in the
state dicts are the field's: weights of `preactresnet18` load into RobustBench's
`PreActResNet(PreActBlockV2, [2, 2, 2, 2], bn_before_fc=True)`, weights of a wide ResNet into its `WideResNet`, and give
the same logits there.
"""

import math
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
conv1x1 = partial(nn.Conv2d, kernel_size=1, bias=False)


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


class Classifier(nn.Module):
    """A network of the protocols: `features` makes penultimate activations, a linear layer (`head`) makes logits.

    `features(x)` is part of the interface: images (B, C, H, W) to activations (B, D), D the input width of `head`;
    `head(features(x))` are the logits (B, num_classes).
    """

    head_name = "linear"

    @property
    def head(self) -> nn.Module:
        """The linear layer from features to logits, under the name that the field's checkpoints give it."""
        return self.get_submodule(self.head_name)

    def features(self, x: Tensor) -> Tensor:
        """Return penultimate activations (B, D) of images (B, C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, H, W)."""
        logits: Tensor = self.head(self.features(x))
        return logits


class ResNet18(Classifier):
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

    def features(self, x: Tensor) -> Tensor:
        """Return activations (B, 512)."""
        features = F.relu(self.bn1(self.conv1(x)))
        return pool(self.layer4(self.layer3(self.layer2(self.layer1(features)))))


class PreActResNet(Classifier):
    """PreActResNet, by default the 18 layers that robust overfitting (Rice et al. 2020) and AWP train.

    BN and ReLU stand before the pooling. Torch's default initialisation: weights U(±1/sqrt(fan_in)), which is Kaiming's
    uniform with a = sqrt(5).

    Args:
        num_classes: outputs.
        channels: channels of the images.
        width: channels of the first stage; each of the three others doubles them and halves the resolution.
        blocks: blocks a stage; a block has two convolutions.
        stride: of the stem; 2 quarters the cost of everything after it.
    """

    def __init__(self, num_classes: int, channels: int, *, width: int = 64, blocks: int = 2, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, width, stride=stride)
        self.layer1 = stage(PreActBlock, width, width, blocks=blocks, stride=1)
        self.layer2 = stage(PreActBlock, width, 2 * width, blocks=blocks, stride=2)
        self.layer3 = stage(PreActBlock, 2 * width, 4 * width, blocks=blocks, stride=2)
        self.layer4 = stage(PreActBlock, 4 * width, 8 * width, blocks=blocks, stride=2)
        self.bn = nn.BatchNorm2d(8 * width)
        self.linear = nn.Linear(8 * width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return activations (B, 8 · width)."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return pool(F.relu(self.bn(features)))


def blocks_per_stage(depth: int) -> int:
    """Return the blocks in each of a wide ResNet's three stages.

    Raises:
        ValueError: if the depth is not 6n + 4.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ValueError(f"the depth of a wide ResNet is 6n + 4, not {depth}")
    return blocks


class WideStage(nn.Module):
    """One stage of a wide ResNet under the name that the field's checkpoints have (`block1.layer.0…`)."""

    def __init__(self, width_in: int, width: int, *, blocks: int, stride: int) -> None:
        super().__init__()
        self.layer = stage(WideBlock, width_in, width, blocks=blocks, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks in turn."""
        features: Tensor = self.layer(x)
        return features


class WideResNet(Classifier):
    """WideResNet-depth-factor as TRADES has it, without its unused `sub_block1`.

    Initialisation of that release: convolutions N(0, 2/(k²·width_out)) (Kaiming's normal, fan out), BN 1 and 0, the
    linear layer torch's default with zero bias.
    """

    head_name = "fc"

    def __init__(self, num_classes: int, channels: int, *, depth: int, factor: int) -> None:
        super().__init__()
        blocks = blocks_per_stage(depth)
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

    def features(self, x: Tensor) -> Tensor:
        """Return activations (B, 64 · factor)."""
        features = self.block3(self.block2(self.block1(self.conv1(x))))
        return pool(F.relu(self.bn1(features)))


class SmallCNN(Classifier):
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

    def features(self, x: Tensor) -> Tensor:
        """Return activations (B, 32)."""
        features = F.relu(self.bn1(self.conv1(x)))
        features = F.relu(self.bn2(self.conv2(features)))
        features = F.relu(self.bn3(self.conv3(features)))
        return pool(features)
