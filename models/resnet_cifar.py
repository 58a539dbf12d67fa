"""ResNets for CIFAR: 6n+2 layers in three stages of n basic blocks.

He et al., 2016, arXiv:1512.03385, Sec. 4.2. Stem conv3x3-BN-ReLU; stages of w, 2w, 4w channels with
strides 1, 2, 2; block = conv3x3(stride)-BN-ReLU-conv3x3-BN, add, ReLU; global average; one linear
layer with bias. Convolutions have no bias; BatchNorm has eps 1e-5 and momentum 0.1. Parameter
counts: docs/networks.md.

Deviations: He et al. use option A. B is the default here because open_lth, Synaptic-Flow, GraSP,
sanity-check and rethinking-network-pruning use it (docs/decisions.md 6). Synaptic-Flow's frozen
per-channel scales of identity shortcuts are left out: they are 1, never trained and never pruned.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from models.conv import Conv3x3
from models.init import check_init, fresh, refuse_small
from models.names import BASIC_BLOCKS, Renamings
from models.narrow import NARROW, check_widest, in_proportion

Shortcut = Literal["A", "B", "B-noBN"]


class SubsampleAndPad(nn.Module):
    """Option A: take every second pixel and pad new zero channels, half of them on either side.

    It has no parameters.
    """

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.before = new_channels // 2
        self.after = new_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        # (B, C + new, ceil(H/2), ceil(W/2))
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class Subsample(nn.Module):
    """Every second pixel of every second row."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2]  # (B, C, ceil(H/2), ceil(W/2))


def _shortcut(kind: Shortcut, inputs: int, outputs: int) -> nn.Module:
    """Build the shortcut of a stage's first block: stride 2, `outputs` channels."""
    if kind == "A":
        return SubsampleAndPad(outputs - inputs)
    narrow = inputs < NARROW  # models/narrow.py
    layers: list[tuple[str, nn.Module]] = [("subsample", Subsample())] if narrow else []
    layers.append(("conv", nn.Conv2d(inputs, outputs, 1, stride=1 if narrow else 2, bias=False)))
    if kind == "B":
        layers.append(("bn", nn.BatchNorm2d(outputs)))
    return nn.Sequential(OrderedDict(layers))


def shortcut_weights(model: nn.Module, name: str) -> tuple[str, ...]:
    """Names of the weights of the convolutions on shortcuts, which are submodules called `name`."""
    return tuple(
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and name in path.split(".")
    )


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    With `stride` 2 it halves the image and changes the channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = Conv3x3(inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = Conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(shortcut, inputs, outputs) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(out)).add_(self.shortcut(x)))


class CifarResNet(nn.Module):
    """The network; `ResNetCifar` describes and builds it. Logits are (B, classes)."""

    def __init__(
        self,
        channels: int,
        classes: int,
        blocks: int,
        widths: tuple[int, ...],
        shortcut: Shortcut,
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1 = Conv3x3(channels, first)
        self.bn1 = nn.BatchNorm2d(first)
        self.stage1 = nn.Sequential(*(BasicBlock(first, first, 1, shortcut) for _ in range(blocks)))
        self.stage2 = self._stage(first, second, blocks, shortcut)
        self.stage3 = self._stage(second, third, blocks, shortcut)
        self.fc = nn.Linear(third, classes)
        self.shortcuts = shortcut_weights(self, "shortcut")

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, shortcut: Shortcut) -> nn.Sequential:
        rest = (BasicBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1))
        return nn.Sequential(BasicBlock(inputs, outputs, 2, shortcut), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.bn1(self.conv1(x)))  # (B, w, H, W)
        x = self.stage3(self.stage2(self.stage1(x)))  # (B, 4w, ceil(H/4), ceil(W/4))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class ResNetCifar:
    """A CIFAR ResNet.

    Args:
        name: the model's name in records and messages.
        depth: 6n + 2: 20, 32, 44, 56, 110.
        width: channels of the first stage; 16 is the paper's, 32 the doubled net of GraSP and
            sanity-check.
        shortcut: where the shape changes. A: subsample and pad (He et al.); B: 1x1 conv and
            BatchNorm; B-noBN: 1x1 conv alone (continuous-sparsification).
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "resnet_cifar"
    name: str
    depth: int = 20
    width: int = 16
    shortcut: Shortcut = "B"
    init: str = "fan_in"
    resnet: Literal[True] = True
    widest: int | None = None
    renamings: ClassVar[Renamings] = BASIC_BLOCKS
    smallest: ClassVar[int] = 8  # 2x2 pixels before the average; digits' own size

    def __post_init__(self) -> None:
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(
                f"model.depth={self.depth} must be 6n+2 with n >= 1: 8, 14, 20, 32, 44, 56, 110"
            )
        if self.width < 1:
            raise ValueError(
                f"model.width={self.width} must be at least 1:"
                " channels of the first stage, 16 in the paper"
            )
        if self.shortcut not in get_args(Shortcut):
            raise ValueError(
                f"model.shortcut={self.shortcut!r} must be one of {', '.join(get_args(Shortcut))}"
            )
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stages."""
        return self.width, 2 * self.width, 4 * self.width

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        blocks, widths = (self.depth - 2) // 6, in_proportion(self.channels, self.widest)
        return fresh(
            lambda: CifarResNet(channels, classes, blocks, widths, self.shortcut),
            self.init,
            rng,
        )
