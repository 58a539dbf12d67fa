"""Scores of all layers in one vector, and the masks of its largest entries."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isnan

import torch
from torch import Size, Tensor

from pruners.base import Masks, Scores, counts_by_layer
from pruners.selection.ranks import kth_largest, top_k


@dataclass(frozen=True)
class Ranked:
    """The scores of all prunable weights, layer after layer and by index within a layer.

    Args:
        values: (n,): -inf for a weight that is pruned, NaN for a score that is not finite.
        shapes: of the layers, by name.
    """

    values: Tensor
    shapes: Mapping[str, Size]

    @classmethod
    def of(cls, scores: Scores, masks: Masks) -> "Ranked":
        """The scores of the layers in `masks`, in that order, on their device."""
        values = joined({name: scores[name] for name in masks})
        unsound = values * 0  # NaN for a score that is not finite
        # inf for a weight that is left, else -inf. `where` and `masked_fill` take ten times as long
        # on a CPU, which does not foresee their branches.
        bounds = joined(masks).to(values.dtype).sub_(0.5).mul_(torch.inf)
        values = torch.minimum(values, bounds, out=bounds).add_(unsound)
        return cls(values, {name: mask.shape for name, mask in masks.items()})

    def on_host(self) -> "Ranked":
        """The same on the CPU, by one copy."""
        return replace(self, values=self.values.cpu())

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The layers of a vector (n,), as views of their shapes."""
        return split(vector, self.shapes)

    def count(self, *vectors: Tensor) -> list[dict[str, int]]:
        """By layer: weights that are not pruned, then the True entries of each vector (n,).

        By one copy to the host.

        Raises:
            FloatingPointError: a score is not finite.
        """
        every = [self.values.isnan(), self.values > -torch.inf, *vectors]
        unsound, *counts = counts_by_layer(*(self.split(vector) for vector in every))
        self._refuse(unsound)
        return counts

    def top(self, total: int) -> tuple[Tensor, float]:
        """Bool (n,), True at the `total` largest, and the lowest of these.

        By one copy to the host. It is -inf if fewer weights than `total` are left.

        Raises:
            FloatingPointError: a score is not finite.
        """
        boundary = kth_largest(self.values, total)
        chosen = top_k(self.values, boundary, total)
        # The maximum is NaN if any of the values is.
        lowest, highest = torch.stack([boundary, self.values.max()]).tolist()
        if isnan(highest):
            self.count()  # raises with the layer
        return chosen, lowest

    def _refuse(self, unsound: Mapping[str, int]) -> None:
        """Raise an error that names the first layer with a score that is not finite.

        NaN compares as false with everything, so a threshold would keep or drop it arbitrarily. An
        infinite score has no rank among others.
        """
        for name, number in unsound.items():
            if number:
                raise FloatingPointError(
                    f"{number:,} of {self.shapes[name].numel():,} scores of {name} are NaN or"
                    " infinite: the weights or the gradients have overflowed"
                )


def joined(layers: Mapping[str, Tensor]) -> Tensor:
    """All entries of the layers in one vector, layer after layer and by index within a layer."""
    return torch.cat([layer.flatten() for layer in layers.values()])


def split(vector: Tensor, shapes: Mapping[str, Size]) -> dict[str, Tensor]:
    """The layers of a vector (n,), as views of these shapes: the inverse of `joined`."""
    parts = torch.split(vector, [shape.numel() for shape in shapes.values()])
    pairs = zip(shapes.items(), parts, strict=True)
    return {name: part.view(shape) for (name, shape), part in pairs}
