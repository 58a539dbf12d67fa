"""A network's shapes, which need no data. torch is imported where a network is built."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def shapes_of(model: Any, info: Any) -> "nn.Module":
    """The network that `model` describes for images of a data set, on the meta device.

    Raises:
        ValueError: it does not take such images.
    """
    import torch

    with torch.device("meta"):
        net: nn.Module = model(info.channels, info.classes, info.size, torch.Generator())
    return net


def prunable_weights(net: "nn.Module") -> int:
    """Number of prunable weights of a network."""
    from pruners.base import prunable_names

    return sum(net.get_parameter(name).numel() for name in prunable_names(net))
