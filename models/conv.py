"""3x3 convolutions that are as fast on tiny images as elsewhere: the last stage of a CIFAR ResNet on 8x8 images, of a VGG on 32x32."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# In bf16 oneDNN's gradient by the weights of such layers takes several times as long as the layer itself (AMX, torch 2.14); one matrix product is faster.
TINY, WIDE = 16, 128  # pixels of the image, at most; input channels, at least


class Conv3x3(nn.Conv2d):
    """A convolution with 3x3 weights and padding 1.

    On 2x2 images every output pixel sees every input pixel: the convolution is one linear map of 4 C inputs, without a product wasted on the padding. CPUs
    compute it so, because oneDNN's gradient by the weights is slow on such images (AVX2: five times as long as the map's). In bf16 (autocast) the same holds
    of wide layers on images of up to 16 pixels, whose neighbourhoods are written out. Rounding differs in the last bits, as it does between machines; CUDA
    keeps its own kernels.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        if self.stride == (1, 1) and x.device.type == "cpu":
            if x.shape[2:] == (2, 2):
                return _on_two_by_two(x, self.weight, self.bias)
            if x.shape[2:].numel() <= TINY and self.in_channels >= WIDE and torch.is_autocast_enabled("cpu"):
                return _by_neighbourhoods(x, self.weight, self.bias)
        return super().forward(x)


def _on_two_by_two(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of x (B, I, 2, 2) with weight (O, I, 3, 3) and padding 1 as one matrix product; (B, O, 2, 2), channels last."""
    taps = weight.permute(0, 2, 3, 1)  # (O, 3, 3, I)
    seen = [taps[:, 1 - row : 3 - row, 1 - column : 3 - column] for row in (0, 1) for column in (0, 1)]  # of each output pixel, (O, 2, 2, I)
    matrix = torch.stack(seen).reshape(4 * len(weight), -1)
    flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # (B, 4 I), no copy of what is channels last
    out = F.linear(flat, matrix, None if bias is None else bias.repeat(4))
    return out.reshape(len(x), 2, 2, len(weight)).permute(0, 3, 1, 2)


def _by_neighbourhoods(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of x (B, I, H, W) with weight (O, I, 3, 3) and padding 1 as one matrix product; (B, O, H, W), channels last."""
    height, width = x.shape[2:]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    seen = torch.cat([padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)], dim=3)  # (B, H, W, 9 I)
    return F.linear(seen, weight.permute(0, 2, 3, 1).reshape(len(weight), -1), bias).permute(0, 3, 1, 2)
