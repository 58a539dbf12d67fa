"""LeNet-300-100 and LeNet-5, as pruning papers use them.

LeCun et al., 1998, Gradient-based learning applied to document recognition. Counts for 28x28x1 and
10 classes: LeNet-300-100 266,610 parameters, LeNet-5 431,080 (caffe) or 44,426 (lecun1998);
docs/networks.md.

Deviations: the first linear layer adapts to the image size, so other sizes work too. `caffe` is
namhoonlee/snip-public's: max-pooling, and no ReLU after the convolutions. `lecun1998` has the layer
sizes of 1998. As in today's re-implementations, it has ReLU, max-pooling and a plain linear output
instead of tanh, trainable subsampling, partial connections and radial basis functions, and it does
not pad the 28x28 image.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Generator, nn

from models.init import check_init, fresh, refuse_small
from models.mlp import perceptron
from models.narrow import check_widest, in_proportion

Variant = Literal["caffe", "lecun1998"]


@dataclass(frozen=True)
class LeNet300:
    """LeNet-300-100: inputs-300-100-classes with ReLU.

    Args:
        name: the model's name in records and messages.
        init: see models/init.py; snip-public's is `lenet_snip`.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "lenet_300_100"
    name: str
    init: str = "fan_in"
    resnet: Literal[False] = False
    widest: int | None = None
    smallest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Units of the hidden layers."""
        return 300, 100

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        hidden = in_proportion(self.channels, self.widest)
        return fresh(lambda: perceptron(channels * size * size, hidden, classes), self.init, rng)


def _caffe(channels: int, classes: int, side: int, widths: tuple[int, ...]) -> nn.Sequential:
    first, second, units = widths
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * side * side, units),
            relu1=nn.ReLU(inplace=True),
            fc2=nn.Linear(units, classes),
        )
    )


def _lecun1998(channels: int, classes: int, side: int, widths: tuple[int, ...]) -> nn.Sequential:
    first, second, units, last = widths
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, 5),
            relu1=nn.ReLU(inplace=True),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5),
            relu2=nn.ReLU(inplace=True),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * side * side, units),
            relu3=nn.ReLU(inplace=True),
            fc2=nn.Linear(units, last),
            relu4=nn.ReLU(inplace=True),
            fc3=nn.Linear(last, classes),
        )
    )


@dataclass(frozen=True)
class LeNet5:
    """LeNet-5: two 5x5 convolutions, each followed by a 2x2 max-pooling, then linear layers.

    The convolutions have no padding.

    Args:
        name: the model's name in records and messages.
        variant: `caffe`: 20 and 50 filters, 500 hidden units (snip-public); `lecun1998`: 6 and 16
            filters, 120 and 84 hidden units.
        init: see models/init.py; snip-public's is `lenet_snip`.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "lenet5"
    name: str
    variant: Variant = "caffe"
    init: str = "fan_in"
    resnet: Literal[False] = False
    widest: int | None = None
    smallest: ClassVar[int] = 16  # 16 -> 12 -> 6 -> 2 -> 1

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ValueError(
                f"model.variant={self.variant!r} must be one of {', '.join(get_args(Variant))}"
            )
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Filters of the convolutions and units of the hidden layers."""
        return (20, 50, 500) if self.variant == "caffe" else (6, 16, 120, 84)

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        refuse_small(self.name, size, self.smallest)
        side = ((size - 4) // 2 - 4) // 2  # after two (conv 5x5, pool 2x2)
        make = _caffe if self.variant == "caffe" else _lecun1998
        widths = in_proportion(self.channels, self.widest)
        return fresh(lambda: make(channels, classes, side, widths), self.init, rng)
