"""Whether masks leave a way through a network: which outputs can depend on the input at all, and which layers have lost every weight."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from models.init import CONVOLUTIONS, NORMS

GATE = "SqueezeExcitation"  # torchvision's, by its name: importing torchvision takes a second, and most nets need none of it


@torch.no_grad()
def reached_outputs(model: nn.Module, masks: dict[str, Tensor], shape: tuple[int, int, int]) -> tuple[int, int]:
    """(outputs that a path of kept weights joins to some input, all outputs). The model is not touched.

    An image of ones goes through a copy whose weights are the masks as 0 and 1, without biases, BatchNorm passing everything on; after every layer with weights
    what is positive becomes 1, so that no depth overflows. A shortcut that carries the flow around an empty layer counts, and so does a gate
    (squeeze-and-excitation): what it multiplies, be it constant without the flow, depends on whatever the gate depends on.

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
    """Forward hook: 1 where flow comes straight or through the gate, which its sigmoid would open without any."""
    (flow,) = inputs  # (1, C, H, W)
    gate = module.fc2(module.fc1(module.avgpool(flow)))  # (1, C, 1, 1); SiLU between them leaves signs as they are
    return (flow + gate).sign()


def empty_layers(masks: dict[str, Tensor]) -> int:
    """Number of layers without any kept weight."""
    return sum(not mask.any() for mask in masks.values())
