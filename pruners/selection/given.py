"""Masks that are given, not computed (docs/methods/given.md)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pruners.base import FixedMasking, Masks, Task, apply_masks


@dataclass(frozen=True)
class Given:
    """The masks among the findings of an earlier stage, within the current masks.

    Args:
        stage: name of the stage that has read them.
    """

    tag: ClassVar[str] = "given"
    stage: str = "masks"

    @property
    def reads(self) -> tuple[str, ...]:
        """The stage whose findings are read."""
        return (self.stage,)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> FixedMasking:
        """Masks by parameter name, applied to the model; what was pruned before stays pruned.

        No data, density or random number is used.
        """
        given = task.measured[self.stage].tensors
        found = {name: mask & given[name].to(mask.device) for name, mask in masks.items()}
        apply_masks(model, found)
        return FixedMasking(found)
