"""Whether masks leave a way through a network: which outputs can depend on the input at all, and which layers have lost every weight."""

import copy

import torch
from torch import Tensor, nn

from models.init import CONVOLUTIONS, NORMS


@torch.no_grad()
def reached_outputs(model: nn.Module, masks: dict[str, Tensor], shape: tuple[int, int, int]) -> tuple[int, int]:
    """(outputs that a path of kept weights joins to some input, all outputs). The model is not touched.

    An image of ones goes through a copy whose weights are the masks as 0 and 1, without biases, BatchNorm passing everything on; after every layer with weights
    what is positive becomes 1, so that no depth overflows. A shortcut that carries the flow around an empty layer counts.

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
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)) and module.bias is not None:
            module.bias.zero_()
    image = torch.ones((1, *shape), device=next(net.parameters()).device)
    outputs = net(image).flatten()  # (classes,)
    return int((outputs > 0).sum()), outputs.numel()


def empty_layers(masks: dict[str, Tensor]) -> int:
    """Number of layers without any kept weight."""
    return sum(not mask.any() for mask in masks.values())
