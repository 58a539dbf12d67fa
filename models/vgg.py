"""VGG nets with BatchNorm for small images (Simonyan and Zisserman, 2015, arXiv:1409.1556, Table 1; BatchNorm and one linear layer as in pruning papers).

Blocks of conv3x3(pad 1)-BN-ReLU of w, 2w, 4w, 8w, 8w channels, a 2x2 max-pooling behind each of the first `pools` blocks, the average over what is left of the
image, one linear layer 8w -> classes. BatchNorm has eps 1e-5 and momentum 0.1. Parameter counts: methods/models.md.

Four poolings: alecwangcq/GraSP, JingtongSu/sanity-checking-pruning, Synaptic-Flow's `lottery` nets, open_lth's `cifar_vgg_*`; at the end they average over
2x2 pixels (4x4 at 64x64). Five: the jackpots paper's net (methods/experiments.md), where 1x1 pixel is left of 32x32. Three: our own small net, for 8x8 and up.

Deviations: the average goes over the whole image that is left, so every size from 2**pools up works. Whether convolutions have a bias differs from source to
source, see `bias`; BatchNorm cancels it while training. Synaptic-Flow's other VGG for Tiny-ImageNet, with three linear layers and dropout, is not built.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from models.conv import Conv3x3
from models.init import check_init, fresh, refuse_small

LAYERS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # depth -> convolutions of each block; configurations A, B, D, E
FACTORS = (1, 2, 4, 8, 8)  # channels of each block / width


class VggNet(nn.Module):
    """The network; `Vgg` describes and builds it. Logits are (B, classes)."""

    def __init__(self, channels: int, classes: int, depth: int, width: int, pools: int, bias: bool) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = channels
        for block, (count, factor) in enumerate(zip(LAYERS[depth], FACTORS, strict=True), start=1):
            for place in range(1, count + 1):
                layers[f"conv{block}_{place}"] = Conv3x3(inputs, factor * width, bias=bias)
                layers[f"bn{block}_{place}"] = nn.BatchNorm2d(factor * width)
                layers[f"relu{block}_{place}"] = nn.ReLU()
                inputs = factor * width
            if block <= pools:
                layers[f"pool{block}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean(dim=(2, 3)))  # (B, 8w, H / 2**pools, W / 2**pools) -> (B, classes)


@dataclass(frozen=True)
class Vgg:
    """A VGG net with BatchNorm.

    Args:
        name: what records and messages call it.
        depth: layers with weights: 11, 13, 16 or 19.
        width: channels of the first block; 64 is the paper's.
        pools: 2x2 max-poolings, 0 to 5, one behind each block from the first on; 4 in most pruning code, 5 in the jackpots paper.
        bias: of convolutions; sanity-check, rethinking, Synaptic-Flow and open_lth have one, GraSP and zyxxmu/lottery-jackpots have none.
        init: see models/init.py.
    """

    tag: ClassVar[str] = "vgg"
    name: str
    depth: int = 19
    width: int = 64
    pools: int = 4
    bias: bool = True
    init: str = "fan_in"
    deepest: ClassVar[int] = len(FACTORS)

    def __post_init__(self) -> None:
        if self.depth not in LAYERS:
            raise ValueError(f"model.depth={self.depth} must be one of {', '.join(map(str, LAYERS))}: the layers with weights")
        if self.width < 1:
            raise ValueError(f"model.width={self.width} must be at least 1: channels of the first block, 64 in the paper")
        if not 0 <= self.pools <= self.deepest:
            raise ValueError(
                f"model.pools={self.pools} must be from 0 to {self.deepest}: a 2x2 max-pooling behind each of the first blocks, 4 in most pruning papers"
            )
        check_init(self.init)

    @property
    def smallest(self) -> int:
        """Images whose last pooling leaves one pixel."""
        return 2**self.pools

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """The network for `channels` x `size` x `size` images: CPU, float32, training mode; weights drawn from `rng` alone."""
        refuse_small(self.name, size, self.smallest)
        return fresh(lambda: VggNet(channels, classes, self.depth, self.width, self.pools, self.bias), self.init, rng)
