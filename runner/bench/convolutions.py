"""The share of a training epoch that its convolutions alone would take: the limit of training.

Each convolution of ResNet-20 runs as often as in the epoch, forward and backward, on tensors of the
shapes and the memory format that it has there. Nothing else runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runner.bench.timing import Comparison
from runner.bench.training import BATCH, LARGE, epoch_of, has_bf16, images_of, net


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network with its tensors.

    Args:
        x, weight, grad: input, weight and gradient of the output.
        stride, padding: of the convolution, in both directions.
        first: the input is an image, of which no gradient is needed.
    """

    x: Tensor
    weight: Tensor
    grad: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    first: bool

    def run(self) -> None:
        """Compute the output and the gradients that a training step needs."""
        one, zero = (1, 1), (0, 0)
        torch.ops.aten.convolution(
            self.x, self.weight, None, self.stride, self.padding, one, False, zero, 1
        )
        wanted = [not self.first, True, False]
        torch.ops.aten.convolution_backward(
            self.grad,
            self.x,
            self.weight,
            None,
            self.stride,
            self.padding,
            one,
            False,
            zero,
            1,
            wanted,
        )


def convolutions(
    model: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32
) -> list[Convolution]:
    """Return the convolutions of a pass of `model` on `x`, in order; values are random.

    Args:
        dtype: of their tensors.
    """
    found: list[Convolution] = []

    def note(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        stride, padding = tuple(module.stride), module.padding
        assert isinstance(padding, tuple)  # ResNet-20 has no padding by name
        x, weight = inputs[0].detach().to(dtype), module.weight.detach().to(dtype)
        grad = torch.randn_like(output).to(dtype)
        found.append(Convolution(x, weight, grad, stride, padding, first=not found))

    hooks: list[Any] = [
        module.register_forward_hook(note)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def mix(convolutions: list[Convolution], steps: int) -> Callable[[], object]:
    """Return a function that runs the convolutions of `steps` training steps."""

    def work() -> None:
        for _ in range(steps):
            for each in convolutions:
                each.run()

    return work


def limit_comparison(name: str, device: torch.device, precision: str = "fp32") -> Comparison:
    """Compare an epoch of our loop with its convolutions alone; the ratio is their share.

    With bf16, the convolutions compute in it as autocast lets them.
    """
    size, channels, images, augment = LARGE
    x = torch.randn(BATCH, channels, size, size, device=device)
    layers = convolutions(
        net(channels, size, device),
        x.contiguous(memory_format=torch.channels_last),
        torch.bfloat16 if precision == "bf16" else torch.float32,
    )
    return Comparison(
        name,
        f"an epoch of ResNet-20, {channels}x{size}x{size}, {precision}",
        "limit: its convolutions alone",
        epoch_of(images_of(images, channels, size), augment, device, precision),
        mix(layers, images // BATCH),
    )


def limit_in_bf16(name: str, device: torch.device) -> Iterator[Comparison]:
    """Yield the same in bf16, on CPUs that have it."""
    if device.type == "cpu" and has_bf16(device):
        yield limit_comparison(name, device, "bf16")
