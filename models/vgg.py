"""VGG nets with BatchNorm for small images.

Simonyan and Zisserman, 2015, arXiv:1409.1556, Table 1; BatchNorm and one linear layer as in pruning
papers. Blocks of conv3x3(pad 1)-BN-ReLU of w, 2w, 4w, 8w, 8w channels, a 2x2 max-pooling after each
of the first `pools` blocks, the average over the remaining image, one linear layer 8w -> classes.
BatchNorm has eps 1e-5 and momentum 0.1. Parameter counts: docs/networks.md.

Number of poolings:
- Four: alecwangcq/GraSP, JingtongSu/sanity-checking-pruning, Synaptic-Flow's `lottery` nets,
  open_lth's `cifar_vgg_*`. They average over 2x2 pixels at the end (4x4 at 64x64).
- Five: the jackpots paper's net (docs/tables.md), which reduces 32x32 to 1x1 pixel.
- Three: our own small net, for 8x8 and up.

Deviations: the average covers the whole remaining image, so every size from 2**pools up works.
Whether convolutions have a bias differs between sources, see `bias`; BatchNorm cancels it in
training. Synaptic-Flow's other VGG for Tiny-ImageNet, with three linear layers and dropout, is not
implemented.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor, nn

from models.conv import Conv3x3
from models.init import check_init, fresh, refuse_small
from models.names import Renamings, counted
from models.narrow import check_widest, in_proportion

# depth -> convolutions of each block; configurations A, B, D, E
LAYERS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
FACTORS = (1, 2, 4, 8, 8)  # channels of each block / width


class VggNet(nn.Module):
    """The network; `Vgg` describes and builds it. Logits are (B, classes)."""

    def __init__(
        self,
        channels: int,
        classes: int,
        depth: int,
        widths: tuple[int, ...],
        pools: int,
        bias: bool,
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = channels
        for block, (count, width) in enumerate(zip(LAYERS[depth], widths, strict=True), start=1):
            for place in range(1, count + 1):
                layers[f"conv{block}_{place}"] = Conv3x3(inputs, width, bias=bias)
                layers[f"bn{block}_{place}"] = nn.BatchNorm2d(width)
                layers[f"relu{block}_{place}"] = nn.ReLU(inplace=True)
                inputs = width
            if block <= pools:
                layers[f"pool{block}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        # (B, 8w, H / 2**pools, W / 2**pools) -> (B, classes)
        logits: Tensor = self.fc(self.features(x).mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class Vgg:
    """A VGG net with BatchNorm.

    Args:
        name: the model's name in records and messages.
        depth: layers with weights: 11, 13, 16 or 19.
        width: channels of the first block; 64 is the paper's.
        pools: 2x2 max-poolings, 0 to 5, one after each of the first blocks; 4 in most pruning code,
            5 in the jackpots paper.
        bias: whether convolutions have a bias; they do in sanity-check, rethinking, Synaptic-Flow
            and open_lth, not in GraSP and zyxxmu/lottery-jackpots.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "vgg"
    name: str
    depth: int = 19
    width: int = 64
    pools: int = 4
    bias: bool = True
    init: str = "fan_in"
    resnet: Literal[False] = False
    widest: int | None = None
    deepest: ClassVar[int] = len(FACTORS)

    def __post_init__(self) -> None:
        if self.depth not in LAYERS:
            raise ValueError(
                f"model.depth={self.depth} must be one of {', '.join(map(str, LAYERS))}:"
                " the layers with weights"
            )
        if self.width < 1:
            raise ValueError(
                f"model.width={self.width} must be at least 1:"
                " channels of the first block, 64 in the paper"
            )
        if not 0 <= self.pools <= self.deepest:
            raise ValueError(
                f"model.pools={self.pools} must be from 0 to {self.deepest}: a 2x2 max-pooling"
                " behind each of the first blocks, 4 in most pruning papers"
            )
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def renamings(self) -> Renamings:
        """Names of nets whose `features` are counted in the same order, with as many poolings."""
        names = []
        for block, count in enumerate(LAYERS[self.depth], start=1):
            places = range(1, count + 1)
            names += [f"{kind}{block}_{i}" for i in places for kind in ("conv", "bn", "relu")]
            names += [f"pool{block}"] if block <= self.pools else []
        return counted(tuple(names), "features")

    @property
    def smallest(self) -> int:
        """Smallest image size: the last pooling leaves one pixel."""
        return 1 << self.pools

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the blocks."""
        return tuple(factor * self.width for factor in FACTORS)

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        widths = in_proportion(self.channels, self.widest)
        return fresh(
            lambda: VggNet(channels, classes, self.depth, widths, self.pools, self.bias),
            self.init,
            rng,
        )
