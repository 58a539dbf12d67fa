"""EfficientNet-B4: torchvision's module, so that its published weights fit.

Tan and Le, 2019, arXiv:1905.11946, Table 1 with width 1.4 and depth 1.8.

Stem conv3x3/2; 32 inverted bottlenecks (1x1 expansion, depthwise convolution,
squeeze-and-excitation, 1x1 projection), each convolution with BatchNorm and SiLU except the
projection, which has no SiLU; 1x1 convolution to 1792 channels; global average; one linear layer.
19,341,616 parameters at 1000 classes; 1.50 G multiply-accumulates at 224x224, 4.39 G at 380x380.
BatchNorm has eps 1e-5 and momentum 0.1.

Images: the authors use 380x380. The jackpots paper evaluates all its ImageNet nets at 224 after
scaling to 256 (docs/tables.md), so `dataset.size` keeps its default; `dataset.size=380` is
the authors' size. At 224, torchvision's weights, trained for 380, score less than their published
83.4 %.

All conv weights are prunable (docs/decisions.md 2; the paper does not say). They include the
depthwise weights and those of squeeze-and-excitation, which are 1x1 convolutions with a bias.
Parameters keep torchvision's names.

Dropout and stochastic depth are 0 by default. torchvision's training uses 0.4 and 0.2; the jackpots
paper names neither. A search on frozen weights has little to regularise, and scores that compare
gradients need the same net twice. If they are on, they draw from torch's own generator. Every stage
seeds it and every checkpoint stores it, so runs repeat and resume bit for bit. Several processes of
torchrun would draw the same numbers, so this combination raises an error.

Deviations: for images that do not have three channels, the stem gets their number of channels; no
published weights fit then. The default initialiser is the project's (docs/decisions.md 3).
torchvision's own is `model.init=fan_out` in convolutions (without dividing by groups) and
U(+-1/sqrt(classes)) in the linear layer.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, nn
from torchvision.models import efficientnet_b4

from models.init import check_init, fresh, refuse_small

STEM = 48  # channels


def network(channels: int, classes: int, dropout: float, stochastic_depth: float) -> nn.Module:
    """Build torchvision's module; logits are (B, classes)."""
    model: nn.Module = efficientnet_b4(
        num_classes=classes, dropout=dropout, stochastic_depth_prob=stochastic_depth
    )
    if channels != 3:
        model.get_submodule("features.0").register_module(
            "0", nn.Conv2d(channels, STEM, 3, stride=2, padding=1, bias=False)
        )
    return model


@dataclass(frozen=True)
class EfficientNetB4:
    """EfficientNet-B4.

    Args:
        name: the model's name in records and messages.
        dropout: before the linear layer, in training; torchvision's own is 0.4.
        stochastic_depth: probability of skipping the last block in training, falling linearly to 0
            at the first block; torchvision's own is 0.2.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
    """

    tag: ClassVar[str] = "efficientnet_b4"
    name: str
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    init: str = "fan_in"
    resnet: Literal[False] = False
    smallest: ClassVar[int] = 32  # one pixel before the average
    # 83.38 / 96.59 % at 380x380; the paper's 82.61 / 96.41 belong to other weights
    torchvision: ClassVar[str] = "EfficientNet_B4_Weights.IMAGENET1K_V1"

    def __post_init__(self) -> None:
        problems = [
            f"model.{key}={value:g} must be in [0, 1):"
            f" a probability, {usual} in torchvision's training"
            for key, value, usual in (
                ("dropout", self.dropout, 0.4),
                ("stochastic_depth", self.stochastic_depth, 0.2),
            )
            if not 0 <= value < 1
        ]
        if problems:
            raise ValueError("\n".join(problems))
        check_init(self.init)

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        return fresh(
            lambda: network(channels, classes, self.dropout, self.stochastic_depth), self.init, rng
        )
