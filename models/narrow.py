"""Narrower forms of a network: every hidden layer keeps the same share of its channels.

Units of linear layers are channels, too. A form is named by one whole number, the channels of the
widest layer; the other layers follow in proportion, each rounded to the nearest whole number (a
half up) and with at least one channel. Inputs and classes stay as they are. More channels of the
widest layer never give fewer of another, so that the number of weights grows with this number.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

# Maximum channels of a CPU's vector register. With fewer input channels, oneDNN's weight gradient
# of a strided 1x1 convolution writes past its buffer: corrupted memory and wrong gradients (torch
# 2.14 with AVX2: oneDNN issue 6035). In that case the pixels are dropped before the convolution.
# Wider nets keep their kernels and their exact results.
NARROW = 16


@runtime_checkable
class Narrowable(Protocol):
    """A frozen dataclass that describes a network with narrower forms."""

    @property
    def widest(self) -> int | None:
        """Channels of the widest hidden layer; None = as described by the other fields."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the hidden layers where `widest` is None; () if there are none."""


def in_proportion(channels: Sequence[int], widest: int | None) -> tuple[int, ...]:
    """The channels of each layer when the widest has `widest`; None leaves them as they are."""
    if widest is None:
        return tuple(channels)
    most = max(channels)
    return tuple(max(1, (2 * each * widest + most) // (2 * most)) for each in channels)


def check_widest(widest: int | None, channels: Sequence[int]) -> None:
    """Reject a number of channels that gives no narrower form.

    Raises:
        ValueError: it is not from 1 to the widest layer's own, or there is no hidden layer.
    """
    if widest is not None and not channels:
        raise ValueError(f"model.widest={widest}: there is no hidden layer to narrow; leave it out")
    if widest is not None and not 1 <= widest <= max(channels):
        raise ValueError(
            f"model.widest={widest} must be from 1 to {max(channels)}: channels of the widest"
            " hidden layer, the others in proportion; null is the net as it is"
        )


class Pointwise(nn.Conv2d):
    """A 1x1 convolution with a stride, without bias, that is also right with few input channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        self.every = stride if inputs < NARROW else 1
        super().__init__(inputs, outputs, 1, stride=stride // self.every, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))
        return super().forward(x if self.every == 1 else x[:, :, :: self.every, :: self.every])


def narrow_stages(model: Any, widths: Sequence[int], kernel: int, stride: int) -> None:
    """Rebuild the layers of torchvision's ResNet with other channels, in place; names stay.

    Args:
        widths: of the stages, in place of 64, 128, 256 and 512.
        kernel, stride: of the first convolution.
    """
    first, last = widths[0], widths[-1] * type(model.layer1[0]).expansion
    inputs, classes = model.conv1.in_channels, model.fc.out_features
    model.conv1 = nn.Conv2d(inputs, first, kernel, stride, kernel // 2, bias=False)
    model.bn1, model.fc = nn.BatchNorm2d(first), nn.Linear(last, classes)
    model.inplanes = first  # which torchvision's function counts up
    for number, (width, step) in enumerate(zip(widths, (1, 2, 2, 2), strict=True), start=1):
        old = getattr(model, f"layer{number}")
        stage = model._make_layer(type(old[0]), width, len(old), step)
        if stage[0].downsample is not None:
            conv = stage[0].downsample[0]
            stage[0].downsample[0] = Pointwise(conv.in_channels, conv.out_channels, step)
        setattr(model, f"layer{number}", stage)
