"""ResNet-18 for 64x64 images, as in ganguli-lab/Synaptic-Flow for Tiny-ImageNet.

He et al., 2016, arXiv:1512.03385, Table 1, without the large stem. Stem conv3x3-BN-ReLU at full
size, no max-pooling; stages of w, 2w, 4w, 8w channels with strides 1, 2, 2, 2, two basic blocks
each, option B shortcuts; global average; one linear layer with bias. Convolutions have no bias;
BatchNorm has eps 1e-5 and momentum 0.1. Parameter counts: docs/networks.md.

`wide_resnet18_tiny` is genuinely doubled (w = 128). Synaptic-Flow's net of that name equals
ResNet-18: its width factor applies only to bottleneck blocks, of which there are none
(docs/networks.md). Table 3 of the sketching paper therefore most likely compares ResNet-18 with
itself.

Deviations: Synaptic-Flow's frozen per-channel scales of identity shortcuts are left out: they are
1, never trained and never pruned. Its initialiser is `model.init=synflow_tiny`; the default is the
project's (docs/decisions.md 3).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from models.conv import Conv3x3
from models.init import check_init, fresh, refuse_small
from models.names import BASIC_BLOCKS, Renamings
from models.narrow import check_widest, in_proportion
from models.resnet_cifar import BasicBlock, shortcut_weights


class TinyResNet(nn.Module):
    """The network; `ResNetTiny` describes and builds it. Logits are (B, classes)."""

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.conv1 = Conv3x3(channels, first)
        self.bn1 = nn.BatchNorm2d(first)
        self.stage1 = self._stage(first, first, 1)
        self.stage2 = self._stage(first, second, 2)
        self.stage3 = self._stage(second, third, 2)
        self.stage4 = self._stage(third, fourth, 2)
        self.fc = nn.Linear(fourth, classes)
        self.shortcuts = shortcut_weights(self, "shortcut")

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            BasicBlock(inputs, outputs, stride, "B"), BasicBlock(outputs, outputs, 1, "B")
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.bn1(self.conv1(x)))  # (B, w, H, W)
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))  # (B, 8w, ceil(H/8), ceil(W/8))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class ResNetTiny:
    """An 18-layer ResNet for small images.

    Args:
        name: the model's name in records and messages.
        width: channels of the first stage; 64 is the paper's, 128 the doubled net.
        init: see models/init.py; Synaptic-Flow's is `synflow_tiny`.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "resnet_tiny"
    name: str
    width: int = 64
    init: str = "fan_in"
    resnet: Literal[True] = True
    widest: int | None = None
    renamings: ClassVar[Renamings] = BASIC_BLOCKS
    smallest: ClassVar[int] = 8  # one pixel before the average; digits' own size

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(
                f"model.width={self.width} must be at least 1:"
                " channels of the first stage, 64 in the paper"
            )
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stages."""
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        widths = in_proportion(self.channels, self.widest)
        return fresh(lambda: TinyResNet(channels, classes, widths), self.init, rng)
