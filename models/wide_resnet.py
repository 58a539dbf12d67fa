"""Wide ResNets for CIFAR: 6n+4 layers in three stages of n pre-activation blocks.

Zagoruyko and Komodakis, 2016, arXiv:1605.07146, Table 1 (block type B(3,3), without dropout). Stem
conv3x3; stages of 16k, 32k, 64k channels with strides 1, 2, 2; block = BN-ReLU-conv3x3(stride)-
BN-ReLU-conv3x3, add; BN-ReLU; global average; one linear layer with bias. Where the channels
change, the shortcut is a 1x1 convolution of relu(bn1(x)), as in the authors' code; elsewhere it is
x itself. Convolutions have no bias; BatchNorm has eps 1e-5 and momentum 0.1. Parameter counts:
docs/networks.md.

Deviation: the default initialiser is the project's (docs/decisions.md 3).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from models.conv import Conv3x3
from models.init import check_init, fresh, refuse_small
from models.names import PREACTIVATION_BLOCKS, Renamings
from models.narrow import Pointwise, check_widest, in_proportion
from models.resnet_cifar import shortcut_weights

BASE = 16  # channels of the stem, and of the first stage for k = 1


class PreactivationBlock(nn.Module):
    """conv2(relu(bn2(conv1(relu(bn1(x)))))) + shortcut.

    The shortcut is a convolution of relu(bn1(x)) if the shape changes, else x.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = Conv3x3(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = Conv3x3(outputs, outputs)
        self.shortcut: nn.Module | None = None
        if inputs != outputs or stride != 1:  # equal in the narrowest forms alone
            self.shortcut = Pointwise(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu_(self.bn1(x))
        out: Tensor = self.conv2(torch.relu_(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideNet(nn.Module):
    """The network; `WideResNet` describes and builds it. Logits are (B, classes)."""

    def __init__(self, channels: int, classes: int, blocks: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        stem, first, second, third = widths
        self.conv1 = Conv3x3(channels, stem)
        self.stage1 = self._stage(stem, first, blocks, 1)
        self.stage2 = self._stage(first, second, blocks, 2)
        self.stage3 = self._stage(second, third, blocks, 2)
        self.bn1 = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, classes)
        self.shortcuts = shortcut_weights(self, "shortcut")

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = (PreactivationBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        return nn.Sequential(PreactivationBlock(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.conv1(x))))  # (B, 64k, ceil(H/4), ceil(W/4))
        logits: Tensor = self.fc(torch.relu_(self.bn1(x)).mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class WideResNet:
    """A wide ResNet, WRN-depth-width.

    Args:
        name: the model's name in records and messages.
        depth: 6n + 4: 10, 16, 22, 28, 40.
        width: the paper's k; the first stage has 16k channels.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "wide_resnet"
    name: str
    depth: int = 22
    width: int = 2
    init: str = "fan_in"
    resnet: Literal[True] = True
    widest: int | None = None
    renamings: ClassVar[Renamings] = PREACTIVATION_BLOCKS
    smallest: ClassVar[int] = 8  # 2x2 pixels before the average; digits' own size

    def __post_init__(self) -> None:
        if self.depth < 10 or self.depth % 6 != 4:
            raise ValueError(
                f"model.depth={self.depth} must be 6n+4 with n >= 1: 10, 16, 22, 28, 40"
            )
        if self.width < 1:
            raise ValueError(
                f"model.width={self.width} must be at least 1: the first stage has 16 times as many"
                " channels"
            )
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stem and of the stages."""
        return BASE, *(BASE * self.width * factor for factor in (1, 2, 4))

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        blocks, widths = (self.depth - 4) // 6, in_proportion(self.channels, self.widest)
        return fresh(lambda: WideNet(channels, classes, blocks, widths), self.init, rng)
