"""MobileNet-V1 (Howard et al., 2017, arXiv:1704.04861, Table 1): depthwise separable convolutions.

Stem conv3x3/2; 13 blocks, each a 3x3 depthwise convolution (one filter per channel) and a 1x1
convolution that mixes channels, every convolution followed by BatchNorm and ReLU; global average;
one linear layer with bias: 28 layers with weights. Convolutions have no bias; BatchNorm has eps
1e-5 and momentum 0.1. 4,231,976 parameters and 568.7 M multiply-accumulates at width 1, 1000
classes and 224x224 (the paper: 4.2 M and 569 M).

Choices:
- Table 1 gives the last depthwise convolution stride 2 and its block an output of 7x7, which
  exclude each other. Stride 1 is used, as in all implementations.
- Depthwise weights are prunable, as all conv weights are (docs/decisions.md 2; the jackpots paper
  does not say). They are 44,640 of 4,209,088 and larger than the others at initialization, so one
  global threshold on magnitudes rarely removes them.
- ReLU as printed, not the ReLU6 of later code.
- Widths that would need rounding raise an error.
- torchvision has no such net, hence no weights. The jackpots paper does not say where its dense net
  (71.93 / 90.37 %) is from.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor, nn

from models.init import check_init, fresh, refuse_small
from models.names import Renamings, separable_blocks
from models.narrow import check_widest, in_proportion

STEM = 32  # channels at width 1
# channels at width 1, stride of the depthwise convolution
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def _convolved(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1
) -> nn.Sequential:
    """conv-BN-ReLU that keeps the image's size, or halves it with stride 2."""
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(
        OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs), relu=nn.ReLU(inplace=True))
    )


class MobileNet(nn.Module):
    """The network; `MobileNetV1` describes and builds it. Logits are (B, classes)."""

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = widths[0]
        layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_convolved(channels, inputs, 3, 2))
        for i, ((_, stride), outputs) in enumerate(zip(BLOCKS, widths[1:], strict=True), start=1):
            layers[f"block{i}"] = nn.Sequential(
                OrderedDict(
                    depthwise=_convolved(inputs, inputs, 3, stride, groups=inputs),
                    pointwise=_convolved(inputs, outputs, 1, 1),
                )
            )
            inputs = outputs
        self.features = nn.Sequential(layers)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        # (B, 1024w, ceil(H/32), ceil(W/32)) -> (B, classes)
        logits: Tensor = self.fc(self.features(x).mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class MobileNetV1:
    """A MobileNet-V1.

    Args:
        name: the model's name in records and messages.
        width: the paper's width multiplier alpha: 1, 0.75, 0.5, 0.25. The resolution multiplier
            corresponds to `dataset.size`.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "mobilenet_v1"
    name: str
    width: float = 1.0
    init: str = "fan_in"
    resnet: Literal[False] = False
    widest: int | None = None
    renamings: ClassVar[Renamings] = separable_blocks(len(BLOCKS))
    smallest: ClassVar[int] = 32  # one pixel before the average

    def __post_init__(self) -> None:
        if self.width <= 0 or not (STEM * self.width).is_integer():
            raise ValueError(
                f"model.width={self.width:g} must be positive and give the stem whole channels"
                f" ({STEM} x width): 1, 0.75, 0.5 or 0.25 in the paper"
            )
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stem and of the blocks."""
        return tuple(int(each * self.width) for each in (STEM, *(at_one for at_one, _ in BLOCKS)))

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        widths = in_proportion(self.channels, self.widest)
        return fresh(lambda: MobileNet(channels, classes, widths), self.init, rng)
