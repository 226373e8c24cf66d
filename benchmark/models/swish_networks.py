"""Networks with Swish (SiLU) activations: PreActResNet-18 and wide ResNets of RobustBench's strongest entries.

Shapes and names are those of Gowal et al. 2020 (arXiv:2010.03593) and Rebuffi et al. 2021 (arXiv:2103.01946), in
RobustBench `DMPreActResNet` and `DMWideResNet`: weights load there, and give the same logits with mean 0 and std 1.
They differ from `networks` in more than the activation: a convolution of stride 2 pads below and to the right alone
(TensorFlow's SAME), and a PreActResNet's projection is 3×3 and reads the block's input before batch norm. No network
normalises its input. Torch's default initialisation.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from advbench.benchmark.models.networks import Classifier, blocks_per_stage, conv1x1, conv3x3, pool, stage


def same(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 3×3 convolution without padding of its own as TensorFlow's SAME does at even sizes."""
    padded: Tensor = convolution(F.pad(x, (0, 1, 0, 1) if convolution.stride == (2, 2) else (1, 1, 1, 1)))
    return padded


class SwishPreActBlock(nn.Module):
    """BN, Swish, convolution, twice; the 3×3 projection reads the input as it is."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(width_in)
        self.conv_2d_1 = conv3x3(width_in, width, stride=stride, padding=0)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.conv_2d_2 = conv3x3(width, width)
        projects = stride != 1 or width_in != width
        self.shortcut = conv3x3(width_in, width, stride=stride, padding=0) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual branch to x or its projection."""
        inner = F.silu(self.batchnorm_1(same(self.conv_2d_1, F.silu(self.batchnorm_0(x)))))
        residual: Tensor = self.conv_2d_2(inner)
        return residual + (x if self.shortcut is None else same(self.shortcut, x))


class SwishWideBlock(nn.Module):
    """Block of a wide ResNet; the 1×1 projection reads the activated input."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(width_in)
        self.conv_0 = conv3x3(width_in, width, stride=stride, padding=0)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.conv_1 = conv3x3(width, width)
        self.shortcut = None if width_in == width else conv1x1(width_in, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual branch to x or to the projection of the activated x."""
        active = F.silu(self.batchnorm_0(x))
        residual: Tensor = self.conv_1(F.silu(self.batchnorm_1(same(self.conv_0, active))))
        return residual + (x if self.shortcut is None else self.shortcut(active))


class SwishPreActResNet18(Classifier):
    """PreActResNet-18, widths 64 to 512."""

    head_name = "logits"

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv_2d = conv3x3(channels, 64)
        self.layer_0 = stage(SwishPreActBlock, 64, 64, blocks=2, stride=1)
        self.layer_1 = stage(SwishPreActBlock, 64, 128, blocks=2, stride=2)
        self.layer_2 = stage(SwishPreActBlock, 128, 256, blocks=2, stride=2)
        self.layer_3 = stage(SwishPreActBlock, 256, 512, blocks=2, stride=2)
        self.batchnorm = nn.BatchNorm2d(512)
        self.logits = nn.Linear(512, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return activations (B, 512)."""
        features = self.layer_3(self.layer_2(self.layer_1(self.layer_0(self.conv_2d(x)))))
        return pool(F.silu(self.batchnorm(features)))


class SwishWideStage(nn.Module):
    """One stage of a wide ResNet under RobustBench's names (`layer.0.block.1…`)."""

    def __init__(self, width_in: int, width: int, *, blocks: int, stride: int) -> None:
        super().__init__()
        self.block = stage(SwishWideBlock, width_in, width, blocks=blocks, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks in turn."""
        features: Tensor = self.block(x)
        return features


class SwishWideResNet(Classifier):
    """WideResNet-depth-factor."""

    head_name = "logits"

    def __init__(self, num_classes: int, channels: int, *, depth: int, factor: int) -> None:
        super().__init__()
        blocks = blocks_per_stage(depth)
        widths = [16 * factor, 32 * factor, 64 * factor]
        self.init_conv = conv3x3(channels, 16)
        self.layer = nn.Sequential(
            SwishWideStage(16, widths[0], blocks=blocks, stride=1),
            SwishWideStage(widths[0], widths[1], blocks=blocks, stride=2),
            SwishWideStage(widths[1], widths[2], blocks=blocks, stride=2),
        )
        self.batchnorm = nn.BatchNorm2d(widths[2])
        self.logits = nn.Linear(widths[2], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return activations (B, 64 · factor)."""
        return pool(F.silu(self.batchnorm(self.layer(self.init_conv(x)))))
