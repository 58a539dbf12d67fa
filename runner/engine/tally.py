"""Multiply-accumulates that a stage costs, counted while it computes (docs/training_flops.md).

A pass through the kept weights costs a layer its kept weights times its output positions. The
kept weights of a layer are counted when its mask changes, on the device: no step waits for them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from models.count import Layer, forward
from pruners.base import GRADIENT, Batch, Masks, Passes
from runner.engine.stage_meta import Cost


@dataclass
class _Seen:
    """A layer's mask as it was when its kept weights were counted.

    Args:
        version: of the tensor, which every change in place raises.
        kept: number of True entries, a tensor () on its device.
        passes: forward passes of one image since then.
    """

    mask: Tensor
    version: int
    kept: Tensor
    passes: int = 0

    def is_now(self, mask: Tensor) -> bool:
        """Whether `mask` is the same tensor, unchanged."""
        return self.mask is mask and self.version == mask._version


@dataclass
class Tally:
    """Forward passes of one image, and the kept weights of each layer, summed over a stage.

    Args:
        known: whether every cost was stated.
        read, stated: whether a component read training images, and stated a cost.
        trained: images of training steps.
        kept, full: passes through the kept weights, and through all.
        masked: of the former, those under a mask of the layer.
        weights: kept weights of the layer, summed over these passes.
        seen: the present masks, whose passes are not yet in the sums.
    """

    known: bool = True
    read: bool = False
    stated: bool = False
    trained: int = 0
    kept: int = 0
    full: int = 0
    masked: dict[str, int] = field(default_factory=dict)
    weights: dict[str, Tensor | int] = field(default_factory=dict)
    seen: dict[str, _Seen] = field(default_factory=dict)

    def step(self, masks: Masks, passes: Passes, images: int) -> None:
        """Add a training step."""
        self.trained += images
        self._add(masks, passes, images)

    def spend(self, masks: Masks, passes: Passes | None, images: int) -> None:
        """Add what a component computes besides training steps (`pruners.base.Spend`)."""
        self.stated = True
        if passes is None:
            self.known = False
        else:
            self._add(masks, passes, images)

    def noted(self, batches: Callable[[int], Iterable[Batch]]) -> Callable[[int], Iterable[Batch]]:
        """The same passes over training images; a component that reads them must state its cost."""

        def read(batch_size: int) -> Iterable[Batch]:
            self.read = True
            return batches(batch_size)

        return read

    def _add(self, masks: Masks, passes: Passes, images: int) -> None:
        number = passes.kept * images
        self.kept += number
        self.full += passes.full * images
        for name, mask in (masks if passes.masks is None else passes.masks).items():
            seen = self.seen.get(name)
            if seen is None or not seen.is_now(mask):
                self._close(name)
                seen = self.seen[name] = _Seen(mask, mask._version, mask.count_nonzero())
            seen.passes += number

    def _close(self, name: str) -> None:
        """Add the passes under the last mask of a layer to the sums."""
        if seen := self.seen.pop(name, None):
            self.masked[name] = self.masked.get(name, 0) + seen.passes
            self.weights[name] = self.weights.get(name, 0) + seen.passes * seen.kept

    def state(self) -> Mapping[str, Any]:
        """All sums as plain values, for checkpoints; the host waits for the device."""
        for name in list(self.seen):
            self._close(name)
        self.weights = {name: int(total) for name, total in self.weights.items()}
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "seen"}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a saved state; None is a checkpoint from before there were counts."""
        self.seen.clear()
        for name, value in (state or {"known": False}).items():
            setattr(self, name, value)

    def cost(self, layers: Mapping[str, Layer]) -> Cost:
        """The multiply-accumulates of the stage, for its metadata.

        `total` is None if a component did not state its cost. `dense` is what the training steps
        cost without masks.

        Args:
            layers: of the network, by the name of their weight.
        """
        sums, total = self.state()["weights"], 0
        for name, layer in layers.items():
            unmasked = self.kept - self.masked.get(name, 0) + self.full
            total += layer.positions * (sums.get(name, 0) + layer.weights * unmasked)
        known = self.known and (self.stated or not self.read)
        dense = GRADIENT * self.trained * forward(layers)
        return {"total": total if known else None, "dense": dense}
