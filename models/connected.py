"""Connectivity of masked networks: outputs that the input can reach, and layers without weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from models.init import CONVOLUTIONS, NORMS

GATE = "SqueezeExcitation"  # by name: importing torchvision takes a second, few nets need it


@torch.no_grad()
def reached_outputs(
    model: nn.Module, masks: dict[str, Tensor], shape: tuple[int, int, int]
) -> tuple[int, int]:
    """Return (outputs connected to some input by a path of kept weights, all outputs).

    An image of ones passes through a copy of the model. The copy's weights are the masks as 0 and
    1; it has no biases, and BatchNorm is the identity. After every layer with weights, positive
    values are set to 1, so that no depth overflows. Shortcuts around an empty layer count. Gates
    (squeeze-and-excitation) count as well: a gate's product depends on all inputs of the gate, even
    if the multiplied values are constant. The model is not changed.

    Args:
        shape: of one input, (C, H, W).
        masks: parameter name -> bool tensor, True = kept; a layer without a mask counts in full.
    """
    net = copy.deepcopy(model).float().eval()
    for path, module in net.named_modules():
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            mask = masks.get(f"{path}.weight" if path else "weight")
            module.weight.copy_(torch.ones_like(module.weight) if mask is None else mask)
            module.register_forward_hook(lambda _layer, _inputs, flow: flow.sign())
        elif isinstance(module, NORMS):
            module.reset_parameters()  # scale 1, shift 0, statistics 0 and 1
        elif type(module).__name__ == GATE:
            module.register_forward_hook(_through_the_gate)
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)) and module.bias is not None:
            module.bias.zero_()
    image = torch.ones((1, *shape), device=next(net.parameters()).device)
    outputs = net(image).flatten()  # (classes,)
    return int((outputs > 0).sum()), outputs.numel()


def _through_the_gate(module: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """Forward hook: return 1 where a value is reached directly or through the gate.

    The gate's sigmoid is left out, because it is positive without any input as well.
    """
    (flow,) = inputs  # (1, C, H, W)
    # (1, C, 1, 1); the SiLU between fc1 and fc2, left out here, keeps signs
    gate: Tensor = module.fc2(module.fc1(module.avgpool(flow)))
    return (flow + gate).sign()


def empty_layers(masks: dict[str, Tensor]) -> int:
    """Number of layers without any kept weight."""
    if not masks:
        return 0
    return int((~torch.stack([mask.any() for mask in masks.values()])).sum())
