"""Scores of all layers in one vector, and the masks of its largest entries."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite, isnan

import numpy as np
import torch
from torch import Size, Tensor

from pruners.base import Masks, Scores, counts_by_layer
from pruners.selection.ranks import kth_largest, slowest_first, top_k


class Parts(dict[str, Tensor]):
    """Layers by name that are views of one vector (n,), as `Layout.split` makes them.

    Args:
        layers: the views.
        vector: the entries of all of them.
        layout: of the vector.
    """

    def __init__(self, layers: Mapping[str, Tensor], vector: Tensor, layout: "Layout") -> None:
        super().__init__(layers)
        self.vector, self.layout = vector, layout
        self._views = (*layers.items(),)

    @property
    def whole(self) -> bool:
        """Whether these are the same views in the same order still: none has been replaced."""
        return len(self) == len(self._views) and all(
            name == other and layer is view
            for (name, layer), (other, view) in zip(self.items(), self._views, strict=True)
        )


@dataclass(frozen=True)
class Layout:
    """Places of all layers' entries in one vector (n,), layer after layer.

    Within a layer on the host, entries lie in the order of memory, because reordering a
    convolution's channels-last weights costs more than all operations on them. Those on other
    devices lie in the order of their indices.

    Args:
        shapes: of the layers, by name.
        orders: dimensions of each layer, the slowest first.
    """

    shapes: Mapping[str, Size]
    orders: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, layers: Mapping[str, Tensor]) -> "Layout":
        """The layout of these layers."""
        if isinstance(layers, Parts) and layers.whole:
            return layers.layout
        orders = {
            name: tuple(slowest_first(layer) if layer.device.type == "cpu" else range(layer.dim()))
            for name, layer in layers.items()
        }
        return cls({name: layer.shape for name, layer in layers.items()}, orders)

    def join(self, layers: Mapping[str, Tensor]) -> Tensor:
        """The entries (n,) of layers of these shapes, whatever their own memory format.

        What `split` returned needs no copy: the result is its vector.
        """
        if isinstance(layers, Parts) and layers.layout is self and layers.whole:
            return layers.vector
        return torch.cat(
            [layers[name].permute(order).reshape(-1) for name, order in self.orders.items()]
        )

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The layers of a vector (n,), as views: the inverse of `join`."""
        parts = torch.split(vector, [shape.numel() for shape in self.shapes.values()])
        layers = {}
        for part, (name, shape) in zip(parts, self.shapes.items(), strict=True):
            order = self.orders[name]
            back = sorted(range(len(order)), key=order.__getitem__)
            layers[name] = part.view([shape[d] for d in order]).permute(back)
        return Parts(layers, vector, self)

    def index(self, places: Tensor) -> Tensor:
        """Convert places (m,) in the vector to ranks by layer and index."""
        numbers = torch.arange(sum(shape.numel() for shape in self.shapes.values()))
        parts = torch.split(numbers, [shape.numel() for shape in self.shapes.values()])
        pairs = zip(self.shapes.items(), parts, strict=True)
        return self.join({name: part.view(shape) for (name, shape), part in pairs})[places]


@dataclass(frozen=True)
class Ranked:
    """The scores of all prunable weights in one vector.

    Args:
        scores: (n,), of pruned weights as well. Neither vector is written to: they can be those
            of the layers themselves.
        left: bool (n,), True for a weight that is not pruned.
        layout: of both vectors.
    """

    scores: Tensor
    left: Tensor
    layout: Layout

    @classmethod
    def of(cls, scores: Scores, masks: Masks) -> "Ranked":
        """The scores of the layers in `masks`, in that order, on their device."""
        if list(scores) != list(masks):
            scores = {name: scores[name] for name in masks}
        layout = Layout.of(scores)
        return cls(layout.join(scores), layout.join(masks), layout)

    def on_host(self) -> "Ranked":
        """The same on the CPU, by one copy; scores of pruned weights become a finite number."""
        if self.scores.device.type == "cpu":
            return self
        values = self.values().cpu()
        lowest = torch.finfo(values.dtype).min
        return replace(self, scores=values.clamp(min=lowest), left=values > -inf)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The layers of a vector (n,), as views of their shapes."""
        return self.layout.split(vector)

    def values(self) -> Tensor:
        """The scores (n,): -inf for a weight that is pruned, NaN for one that is not finite."""
        unsound = self.scores * 0  # NaN for a score that is not finite
        # inf for a weight that is left, else -inf. `where` and `masked_fill` take ten times as long
        # on a CPU, which does not foresee their branches.
        bounds = self.left.to(unsound.dtype).sub_(0.5).mul_(inf)
        return torch.minimum(self.scores, bounds, out=bounds).add_(unsound)

    def count(self, *vectors: Tensor) -> list[dict[str, int]]:
        """By layer: weights that are not pruned, then the True entries of each vector (n,).

        By one copy to the host.

        Raises:
            FloatingPointError: a score is not finite.
        """
        every = [~self.scores.isfinite(), self.left, *vectors]
        unsound, *counts = counts_by_layer(*(self.split(vector) for vector in every))
        self._refuse(unsound)
        return counts

    def top(self, total: int) -> tuple[Tensor, float]:
        """Bool (n,), True at the `total` largest, and the lowest of these.

        By one copy to the host. Ties go to the earlier layer, and within a layer to the lower
        index. The lowest is -inf if fewer weights than `total` are left.

        Raises:
            FloatingPointError: a score is not finite.
        """
        if self.scores.device.type == "cpu":
            return self._top_on_host(total)
        values = self.values()
        boundary = kth_largest(values, total)
        chosen = top_k(values, boundary, total)
        # The maximum is NaN if any of the values is.
        lowest, highest = torch.stack([boundary, values.max()]).tolist()
        if isnan(highest):
            self.count()  # raises with the layer
        return chosen, lowest

    def _top_on_host(self, total: int) -> tuple[Tensor, float]:
        """`top` without a vector of `values`."""
        # The sum is not finite if one of the scores is not; it may also overflow.
        if not isfinite(self.scores.sum().item()):
            self.count()
        if np.count_nonzero(self.left.numpy()) < total:  # a fifth of PyTorch's time (measured)
            return self.left, -inf
        boundary = kth_largest(self.scores, total, self.left)
        chosen = top_k(self.scores, boundary, total, self.left, self.layout.index)
        return chosen, boundary.item()

    def _refuse(self, unsound: Mapping[str, int]) -> None:
        """Raise an error that names the first layer with a score that is not finite.

        NaN compares as false with everything, so a threshold would keep or drop it arbitrarily. An
        infinite score has no rank among others.
        """
        for name, number in unsound.items():
            if number:
                raise FloatingPointError(
                    f"{number:,} of {self.layout.shapes[name].numel():,} scores of {name} are NaN"
                    " or infinite: the weights or the gradients have overflowed"
                )
