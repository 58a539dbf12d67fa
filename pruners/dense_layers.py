"""Layers that a method leaves dense: neither pruned nor counted, so that a density is that of the
other layers.

Sources differ in which layers they prune. The jackpots paper keeps the classifier dense; RigL's
uniform densities and its code for CIFAR the first layer; Flow&Prune's code for ResNets the first
convolution; DSR's code the first layer and the shortcuts; the code of Continuous Sparsification the
shortcuts and the classifier (docs/decisions.md 2).
"""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

from torch import nn

from pruners.base import Masks, prunable_names

Layer = Literal["first", "shortcuts"]
LAYERS = (*get_args(Layer), "classifier")


@runtime_checkable
class HasShortcuts(Protocol):
    """A network that names the weights of the convolutions on its shortcuts."""

    @property
    def shortcuts(self) -> Sequence[str]: ...


def without(
    model: nn.Module, masks: Masks, layers: Sequence[str], key: str = "method.pruner.dense"
) -> Masks:
    """Return `masks` without those of `layers`, which stay dense.

    Args:
        layers: `first`, the first conv or linear layer; `shortcuts`, the convolutions on shortcuts
            that the network names; `classifier`, its last linear layer, if it has one.
        key: the option that names them, for messages.

    Raises:
        ValueError: the network has no shortcuts with weights.
    """
    dense: set[str] = set()
    for layer in layers:
        dense |= _named(model, layer, key)
    return {name: mask for name, mask in masks.items() if name not in dense}


def with_classifier(layers: Sequence[str], classifier: str) -> tuple[str, ...]:
    """`layers` and, if the option `classifier` is `dense`, the classifier."""
    return (*layers, *(("classifier",) if classifier == "dense" else ()))


def unknown_layers(layers: Sequence[str], choices: Sequence[str], key: str) -> list[str]:
    """A message if an option names a layer that it does not offer, or one of them twice."""
    if set(layers) <= set(choices) and len(set(layers)) == len(layers):
        return []
    return [f"{key}=[{','.join(layers)}] must be a list of {', '.join(choices)}, each once"]


def _named(model: nn.Module, layer: str, key: str) -> set[str]:
    names = prunable_names(model)
    if layer == "first":
        return set(names[:1])
    if layer == "classifier":
        linear = [name for name in names if model.get_parameter(name).dim() == 2]
        return set(linear[-1:])
    shortcuts = set(model.shortcuts) if isinstance(model, HasShortcuts) else set[str]()
    if not shortcuts:
        raise ValueError(
            f"{key}=[shortcuts]: this net has no shortcuts with weights; leave shortcuts out"
        )
    return shortcuts
