"""The weights before any mask, for measurements of finished masks."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import Masks, Measurement, Task, Work


@dataclass(frozen=True)
class Origin:
    """Measure stage: copy the weights before any mask, for stages with `needs: [origin]`."""

    tag: ClassVar[str] = "origin"

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Copies of the masked parameters by name."""
        return Measurement({name: model.get_parameter(name).detach().clone() for name in masks})

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """A copy."""
        return Work(0, 0, floats=prunable)


def unmasked(task: Task) -> dict[str, Tensor]:
    """Return the unmasked weights, which the single stage in `needs` provides.

    Raises:
        ValueError: there is no such stage, or several.
    """
    if len(task.measured) != 1:
        raise ValueError(
            "portrait: this measurement needs exactly one stage with weights (needs: [init]), not"
            f" {', '.join(task.measured) or 'none'}"
        )
    (found,) = task.measured.values()
    return dict(found.tensors)


@torch.no_grad()
def unpruned(model: nn.Module, task: Task) -> nn.Module:
    """Return a copy of the model before any mask, with the weights of the stage in `needs`."""
    fresh = copy.deepcopy(model)
    for name, weight in unmasked(task).items():
        fresh.get_parameter(name).copy_(weight)
    return fresh
