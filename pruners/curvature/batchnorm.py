"""Eval-mode BatchNorm folded into the convolutions before it."""

from collections import Counter

import torch
from torch import Tensor, fx, nn


@torch.no_grad()
def fold_batchnorm(model: nn.Module) -> dict[str, Tensor]:
    """Fold eval-mode BatchNorm into the preceding convolutions, in place; equal up to rounding.

    Only if the convolution's output has no other use; a net that cannot be traced is unchanged.

    Returns:
        Weight name -> factor (out, 1, 1, 1) of each convolution that was scaled.
    """
    try:
        graph = _LayerTracer().trace(model)
    except (fx.proxy.TraceError, RuntimeError, TypeError):  # data-dependent branches, len(x), ...
        return {}
    scales: dict[str, Tensor] = {}
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        before = _only_input(node)
        if before is None or calls[str(node.target)] > 1 or calls[str(before.target)] > 1:
            continue
        bn, conv = model.get_submodule(str(node.target)), model.get_submodule(str(before.target))
        if (
            isinstance(bn, nn.BatchNorm2d)
            and bn.running_var is not None
            and isinstance(conv, nn.Conv2d)
        ):
            scales[f"{before.target}.weight"] = _fold(bn, conv)
            parent, _, last = str(node.target).rpartition(".")
            setattr(model.get_submodule(parent), last, nn.Identity())
    return scales


class _LayerTracer(fx.Tracer):
    """Traces our convolutions (models/conv.py), which branch on the image size, as leaves."""

    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, qualified_name)


def _only_input(node: fx.Node) -> fx.Node | None:
    """The module call whose output only the module call `node` uses; None if there is none."""
    before = node.args[0] if node.args else None
    if node.op != "call_module" or not isinstance(before, fx.Node) or len(before.users) > 1:
        return None
    return before if before.op == "call_module" else None


def _fold(bn: nn.BatchNorm2d, conv: nn.Conv2d) -> Tensor:
    """Scale the convolution and set its bias; return the factor (out, 1, 1, 1)."""
    mean, var = bn.running_mean, bn.running_var
    assert mean is not None and var is not None
    gamma, beta = (
        (bn.weight, bn.bias) if bn.affine else (torch.ones_like(mean), torch.zeros_like(mean))
    )
    factor = gamma * (var + bn.eps).rsqrt()  # (out,)
    before = 0.0 if conv.bias is None else conv.bias
    conv.weight.mul_(factor[:, None, None, None])
    conv.bias = nn.Parameter(beta + factor * (before - mean), requires_grad=False)
    return factor[:, None, None, None]
