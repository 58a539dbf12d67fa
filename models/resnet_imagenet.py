"""ResNet-50 for ImageNet: torchvision's module, so that its published weights fit name by name.

He et al., 2016, arXiv:1512.03385, Table 1. Stem conv7x7/2-BN-ReLU and 3x3/2 max-pooling; 3, 4, 6, 3
bottlenecks of 256, 512, 1024, 2048 channels; global average; one linear layer with bias. In a
bottleneck that halves the image, the 3x3 convolution has the stride; in the paper the first 1x1
convolution has it. The jackpots paper's ResNet-50 is torchvision's net, judging by its accuracy
(docs/tables.md). Shortcuts where the shape changes are 1x1 convolutions with BatchNorm
(option B). Convolutions have no bias; BatchNorm has eps 1e-5 and momentum 0.1. Parameter counts:
docs/networks.md.

Deviations: for images that do not have three channels, the stem gets their number of channels; no
published weights fit then. The default initialiser is the project's (docs/decisions.md 3).
torchvision's own law is `model.init=synflow_tiny`, except for the linear bias, which is zero here.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, nn
from torchvision.models import resnet50

from models.init import check_init, fresh, refuse_small
from models.narrow import check_widest, in_proportion, narrow_stages
from models.resnet_cifar import shortcut_weights


def network(channels: int, classes: int, widths: tuple[int, ...] | None) -> nn.Module:
    """Build torchvision's module; logits are (B, classes).

    Args:
        widths: channels of the stages' 3x3 convolutions in a narrower form; None = torchvision's.
    """
    model: nn.Module = resnet50(num_classes=classes)
    if channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    if widths:
        narrow_stages(model, widths, 7, 2)
    model.shortcuts = shortcut_weights(model, "downsample")  # type: ignore[assignment]
    return model


@dataclass(frozen=True)
class ResNet50:
    """ResNet-50.

    Args:
        name: the model's name in records and messages.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "resnet50"
    name: str
    init: str = "fan_in"
    resnet: Literal[True] = True
    widest: int | None = None
    smallest: ClassVar[int] = 32  # one pixel before the average
    # 76.13 / 92.86 %, the paper's net; V2 (80.86) uses another training recipe
    torchvision: ClassVar[str] = "ResNet50_Weights.IMAGENET1K_V1"

    def __post_init__(self) -> None:
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stages' 3x3 convolutions; their outputs have four times as many."""
        return 64, 128, 256, 512

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        widths = in_proportion(self.channels, self.widest) if self.widest else None
        return fresh(lambda: network(channels, classes, widths), self.init, rng)
