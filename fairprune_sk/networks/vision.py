"""Convolutional networks for images: ResNet-10, ResNet-18 and MobileNetV2.

torchvision is no dependency. The parameters carry its names, though, so that a state dict of its
ResNet-18 or MobileNetV2 (weights trained on ImageNet, say) loads into the networks here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def _convolution(
    n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Convolution that keeps the image size up to its stride, and its normalisation."""
    convolution = nn.Conv2d(n_in, n_out, size, stride, size // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
    return convolution, nn.BatchNorm2d(n_out)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and the shortcut around them.

    Parameters
    ----------
    n_in, n_out : int
        Channels that come in and go out.
    stride : int
        Of the first convolution. Where the stride or the channels change the shape, the shortcut
        is a 1×1 convolution.
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = _convolution(n_in, n_out, 3, stride)
        self.conv2, self.bn2 = _convolution(n_out, n_out, 3)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(*_convolution(n_in, n_out, 1, stride))

    def forward(self, X: Tensor) -> Tensor:
        """Map a batch of shape (n, n_in, h, w) to (n, n_out, h / stride, w / stride)."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(X)))))
        return self.relu(residual + self.downsample(X))


class ResNet(nn.Module):
    """Residual network of basic blocks, in four stages of 64, 128, 256 and 512 channels.

    Parameters
    ----------
    n_blocks : sequence of int
        Blocks of each stage.
    n_outputs : int, default=1
        Number of logits.
    n_channels : int, default=3
        Channels of the images.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk.networks import ResNet
    >>> network = ResNet([1, 1, 1, 1], n_outputs=2)
    >>> network(torch.zeros(3, 3, 64, 64)).shape
    torch.Size([3, 2])
    """

    def __init__(self, n_blocks: Sequence[int], n_outputs: int = 1, n_channels: int = 3):
        super().__init__()
        self.conv1, self.bn1 = _convolution(n_channels, 64, 7, stride=2)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, n_blocks[0], stride=1)
        self.layer2 = _stage(64, 128, n_blocks[1], stride=2)
        self.layer3 = _stage(128, 256, n_blocks[2], stride=2)
        self.layer4 = _stage(256, 512, n_blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, n_outputs)

    def forward(self, X: Tensor) -> Tensor:
        """Logits of shape (n, n_outputs) for images of shape (n, n_channels, h, w), from 32×32."""
        X = self.maxpool(self.relu(self.bn1(self.conv1(X))))
        X = self.layer4(self.layer3(self.layer2(self.layer1(X))))
        return self.fc(self.avgpool(X).flatten(1))


def _stage(n_in: int, n_out: int, n_blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one number of channels, of which the first changes the size."""
    blocks = [BasicBlock(n_in, n_out, stride)]
    blocks += [BasicBlock(n_out, n_out) for _ in range(n_blocks - 1)]
    return nn.Sequential(*blocks)


class ResNet10(ResNet):
    """ResNet with one block in each stage: 4.9 million parameters.

    Parameters
    ----------
    n_outputs : int, default=1
        Number of logits.
    n_channels : int, default=3
        Channels of the images.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, has the
    blocks; with 10 layers in Simon, Rodner and Denzler, "ImageNet pre-trained models with batch
    normalization", arXiv 1612.01452.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk.networks import ResNet10
    >>> ResNet10()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1])
    """

    def __init__(self, n_outputs: int = 1, n_channels: int = 3):
        super().__init__([1, 1, 1, 1], n_outputs, n_channels)


class ResNet18(ResNet):
    """ResNet with two blocks in each stage: 11.2 million parameters.

    Parameters
    ----------
    n_outputs : int, default=1
        Number of logits.
    n_channels : int, default=3
        Channels of the images.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk.networks import ResNet18
    >>> ResNet18(n_channels=1)(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 1])
    """

    def __init__(self, n_outputs: int = 1, n_channels: int = 3):
        super().__init__([2, 2, 2, 2], n_outputs, n_channels)


class InvertedResidual(nn.Module):
    """Widen by 1×1, filter each channel by 3×3, narrow by 1×1; a shortcut where shapes allow.

    Parameters
    ----------
    n_in, n_out : int
        Channels that come in and go out.
    stride : int
        Of the 3×3 convolution.
    expansion : int
        Channels of the 3×3 convolution, in multiples of ``n_in``. 1 leaves the widening out.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, expansion: int):
        super().__init__()
        n_hidden = n_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_activated(n_in, n_hidden, 1))
        layers.append(_activated(n_hidden, n_hidden, 3, stride, groups=n_hidden))
        self.conv = nn.Sequential(*layers, *_convolution(n_hidden, n_out, 1))
        self.shortcut = stride == 1 and n_in == n_out

    def forward(self, X: Tensor) -> Tensor:
        """Map a batch of shape (n, n_in, h, w) to (n, n_out, h / stride, w / stride)."""
        return X + self.conv(X) if self.shortcut else self.conv(X)


def _activated(n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(*_convolution(n_in, n_out, size, stride, groups), nn.ReLU6())


# Expansion, channels, blocks and stride of the first block: Table 2 of the paper.
_STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def _multiple_of_8(n: float) -> int:
    """Round to a multiple of 8 that is not less than nine tenths of the number."""
    rounded = max(8, int(n + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * n else rounded + 8


class MobileNetV2(nn.Module):
    """Network of inverted residuals, made for small devices: 2.2 million parameters.

    Parameters
    ----------
    n_outputs : int, default=1
        Number of logits.
    n_channels : int, default=3
        Channels of the images.
    width : float, default=1.0
        Factor on the channels of every layer but the last, which never gets fewer than 1280.

    References
    ----------
    Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear
    Bottlenecks", CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk.networks import MobileNetV2
    >>> MobileNetV2(n_outputs=2, width=0.5)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 2])
    """

    def __init__(self, n_outputs: int = 1, n_channels: int = 3, width: float = 1.0):
        super().__init__()
        n_in = _multiple_of_8(32 * width)
        layers: list[nn.Module] = [_activated(n_channels, n_in, 3, stride=2)]
        for expansion, channels, n_blocks, stride in _STAGES:
            n_out = _multiple_of_8(channels * width)
            for i in range(n_blocks):
                layers.append(InvertedResidual(n_in, n_out, stride if i == 0 else 1, expansion))
                n_in = n_out
        n_hidden = _multiple_of_8(1280 * max(width, 1.0))
        self.features = nn.Sequential(*layers, _activated(n_in, n_hidden, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(n_hidden, n_outputs))

    def forward(self, X: Tensor) -> Tensor:
        """Logits of shape (n, n_outputs) for images of shape (n, n_channels, h, w), from 32×32."""
        return self.classifier(self.avgpool(self.features(X)).flatten(1))
