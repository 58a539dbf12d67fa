"""Multilayer perceptrons: flatten, then linear layers with bias and ReLU between them.

Our own plain net; LeNet-300-100 is a special case.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, nn

from models.init import check_init, fresh
from models.narrow import check_widest, in_proportion


def perceptron(inputs: int, hidden: Sequence[int], classes: int) -> nn.Sequential:
    """Build flatten, fc1, relu1, fc2, ...; the last fc gives logits (B, classes)."""
    widths = [inputs, *hidden, classes]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False), start=1):
        layers[f"fc{i}"] = nn.Linear(before, after)
        if i <= len(hidden):
            layers[f"relu{i}"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


@dataclass(frozen=True)
class Mlp:
    """A multilayer perceptron.

    Args:
        name: the model's name in records and messages.
        hidden: widths of the hidden layers; an empty list is a linear classifier. Default
            (300, 300): our choice, from no paper.
        init: see models/init.py.
        resnet: whether sanity-check's ratios for ResNets apply (allocate=smart_ratio).
        widest: channels of the widest hidden layer of a narrower form (models/narrow.py); None =
            as the other options say.
    """

    tag: ClassVar[str] = "mlp"
    name: str
    hidden: tuple[int, ...] = (300, 300)
    init: str = "fan_in"
    resnet: Literal[False] = False
    widest: int | None = None
    smallest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(
                f"model.hidden={list(self.hidden)} must be widths of at least 1, e.g."
                " model.hidden=[300,300]"
            )
        check_init(self.init)
        check_widest(self.widest, self.channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Units of the hidden layers."""
        return self.hidden

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        """Build the network for `channels` x `size` x `size` images.

        It is on the CPU, in float32 and in training mode. All weights are drawn from `rng`.
        """
        hidden = in_proportion(self.channels, self.widest)
        return fresh(lambda: perceptron(channels * size * size, hidden, classes), self.init, rng)
