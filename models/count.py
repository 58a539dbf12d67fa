"""Multiply-accumulates of one example, dense and under masks: the `flops` of a record.

A convolution or linear layer with weight tensor W costs numel(W) x output positions. Under a mask
it costs (kept entries of W) x output positions. Additions of biases, BatchNorm, poolings and
shortcut sums are not counted, as in the papers' tables.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """Size of a convolution or linear layer.

    Args:
        weights: entries of its weight tensor.
        positions: output positions of one example at which they are applied, over all its uses.
    """

    weights: int
    positions: int

    @property
    def dense(self) -> int:
        """Multiply-accumulates per example without a mask."""
        return self.weights * self.positions


def multiply_accumulates(
    model: nn.Module, shape: tuple[int, int, int], masks: dict[str, Tensor] | None = None
) -> tuple[int, int]:
    """Return (dense, non-zero) multiply-accumulates per example.

    Args:
        shape: of one input, (C, H, W).
        masks: parameter name -> bool tensor, True = kept; a layer without a mask counts in full.
    """
    layers = counted_layers(model, shape)
    kept = {
        name: int(masks[name].count_nonzero()) if masks and name in masks else layer.weights
        for name, layer in layers.items()
    }
    nonzero = sum(kept[name] * layer.positions for name, layer in layers.items())
    return forward(layers), nonzero


def forward(layers: Mapping[str, Layer]) -> int:
    """Multiply-accumulates of a dense forward pass of one example."""
    return sum(layer.dense for layer in layers.values())


def counted_layers(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Layer]:
    """The layers that an example passes, by the name of their weight.

    One image of zeros passes through a copy on the CPU; the model is not changed.

    Args:
        shape: of one input, (C, H, W).
    """
    positions: dict[str, int] = {}  # weight name -> output positions over all uses of the layer
    # This takes 0.4 s for a ResNet-50. Tensors without data would need no arithmetic, but PyTorch
    # computes their shapes with its compiler, which takes seconds to import.
    shadow = _of_zeros(model)
    weights = {}
    for path, module in shadow.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            name = f"{path}.weight" if path else "weight"
            weights[name] = module.weight.numel()
            module.register_forward_hook(partial(_note_positions, name, positions))
    with torch.no_grad():
        shadow(torch.zeros((1, *shape), dtype=next(shadow.parameters()).dtype))
    return {name: Layer(weights[name], times) for name, times in positions.items()}


def _of_zeros(model: nn.Module) -> nn.Module:
    """A copy on the CPU with zeros in place of all values, in eval mode.

    `Module.to_empty` would import PyTorch's compiler for a network on the meta device.
    """
    shadow = copy.deepcopy(model).eval()
    for module in shadow.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            zeros = torch.zeros(parameter.shape, dtype=parameter.dtype)
            module.register_parameter(name, nn.Parameter(zeros, requires_grad=False))
        for name, buffer in [*module.named_buffers(recurse=False)]:
            module.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))
    return shadow


def _note_positions(
    name: str,
    positions: dict[str, int],
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> None:
    """Forward hook: add the number of positions at which the layer's whole weight is applied.

    For a convolution's output (1, C, H, W) it is H x W.
    """
    channels = output.shape[1] if isinstance(module, nn.Conv2d) else output.shape[-1]
    positions[name] = positions.get(name, 0) + output.numel() // channels
