"""3x3 convolutions that are also fast on tiny images.

Such images occur in the last stages of a CIFAR ResNet on 8x8 images or of a VGG on 32x32 images.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# In bf16, oneDNN's weight gradient of such layers takes several times as long as the layer itself
# (AMX, torch 2.14); one matrix product is faster.
TINY, WIDE = 16, 128  # maximum pixels of the image; minimum input channels


class Conv3x3(nn.Conv2d):
    """A convolution with 3x3 weights and padding 1.

    On 2x2 images every output pixel depends on every input pixel. The convolution is then one
    linear map of 4 C inputs, without products with the padding. CPUs use this map, because oneDNN's
    weight gradient is slow on such images (AVX2: five times as long as the map's). In bf16
    (autocast), wide layers on images of up to 16 pixels use one matrix product over explicit
    neighbourhoods for the same reason. Results differ from those of `nn.Conv2d` in the last bits,
    as they do between machines. CUDA uses its own kernels.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        if self.stride == (1, 1) and x.device.type == "cpu":
            if x.shape[2:] == (2, 2):
                return _on_two_by_two(x, self.weight, self.bias)
            small = x.shape[2:].numel() <= TINY and self.in_channels >= WIDE
            if small and torch.is_autocast_enabled("cpu"):
                return _by_neighbourhoods(x, self.weight, self.bias)
        return super().forward(x)


def _on_two_by_two(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve x (B, I, 2, 2) with weight (O, I, 3, 3), padding 1, by one matrix product.

    Returns (B, O, 2, 2), channels last.
    """
    taps = weight.permute(0, 2, 3, 1)  # (O, 3, 3, I)
    # weights of each output pixel, (O, 2, 2, I)
    seen = [
        taps[:, 1 - row : 3 - row, 1 - column : 3 - column] for row in (0, 1) for column in (0, 1)
    ]
    matrix = torch.stack(seen).reshape(4 * len(weight), -1)
    flat = x.permute(0, 2, 3, 1).flatten(1)  # (B, 4 I), no copy of a channels-last x
    out = F.linear(flat, matrix, None if bias is None else bias.repeat(4))
    return out.reshape(len(x), 2, 2, len(weight)).permute(0, 3, 1, 2)


def _by_neighbourhoods(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve x (B, I, H, W) with weight (O, I, 3, 3), padding 1, by one matrix product.

    Returns (B, O, H, W), channels last.
    """
    height, width = x.shape[2:]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    places = [(row, column) for row in range(3) for column in range(3)]
    shifted = [padded[:, row : row + height, column : column + width] for row, column in places]
    seen = torch.cat(shifted, dim=3)  # (B, H, W, 9 I)
    out = F.linear(seen, weight.permute(0, 2, 3, 1).reshape(len(weight), -1), bias)
    return out.permute(0, 3, 1, 2)
