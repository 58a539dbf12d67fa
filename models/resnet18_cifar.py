"""ResNet-18 for CIFAR: torchvision's module with a 3x3 stem and no max-pooling.

He et al., 2016, arXiv:1512.03385, Table 1. Stem conv3x3-BN-ReLU at full size; four stages of two
basic blocks with 64, 128, 256, 512 channels and strides 1, 2, 2, 2, option B shortcuts; global
average; one linear layer with bias. Convolutions have no bias; BatchNorm has eps 1e-5 and momentum
0.1. Parameter counts: docs/networks.md.

The function is that of `resnet18_tiny`. Layers have torchvision's names, so that masks and weights
of repositories that adapt torchvision's ResNet-18 to CIFAR fit name by name.

Deviation: the default initialiser is the project's (docs/decisions.md 3).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, nn
from torchvision.models import resnet18

from models.init import check_init, fresh, refuse_small
from models.names import TORCHVISION_BLOCKS, Renamings
from models.narrow import check_widest, in_proportion, narrow_stages
from models.resnet_cifar import shortcut_weights


def network(channels: int, classes: int, widths: tuple[int, ...] | None) -> nn.Module:
    """Build torchvision's module with another stem; logits are (B, classes).

    Args:
        widths: channels of the stages of a narrower form; None = torchvision's.
    """
    model: nn.Module = resnet18(num_classes=classes)
    model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    if widths:
        narrow_stages(model, widths, 3, 1)
    model.maxpool = nn.Identity()
    model.shortcuts = shortcut_weights(model, "downsample")  # type: ignore[assignment]
    return model


@dataclass(frozen=True)
class ResNet18Cifar:
    """ResNet-18 for small images, with torchvision's layers.

    Args:
        name: the model's name in records and messages.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "resnet18_cifar"
    name: str
    init: str = "fan_in"
    resnet: Literal[True] = True
    widest: int | None = None
    renamings: ClassVar[Renamings] = TORCHVISION_BLOCKS
    smallest: ClassVar[int] = 8  # one pixel before the average; digits' own size

    def __post_init__(self) -> None:
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stages."""
        return 64, 128, 256, 512

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        widths = in_proportion(self.channels, self.widest) if self.widest else None
        return fresh(lambda: network(channels, classes, widths), self.init, rng)
