"""Masks in a training loop of one's own."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from pruners.base import FixedMasking, Masks, apply_masks


@dataclass(frozen=True)
class Kept:
    """What keeps weights at zero: two hooks of an optimizer."""

    before: RemovableHandle
    after: RemovableHandle

    def remove(self) -> None:
        """Stop keeping weights at zero."""
        self.before.remove()
        self.after.remove()


def keep_masked(model: nn.Module, masks: Masks, optimizer: Optimizer) -> Kept:
    """Set pruned weights to zero now, and keep them so in each step of `optimizer`.

    Before a step the gradients of pruned weights are set to zero, so that momentum does not see
    them; after it the weights are, as weight decay and earlier momentum can move them. Winnow's
    training loop does the same. `remove()` of the result ends it.

    Args:
        masks: by parameter name, bool, of the parameter's shape, True = kept.

    Raises:
        ValueError: a mask has no parameter of its name and shape, or is not bool.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            raise ValueError(
                f"masks[{name!r}]: the network has no parameter of this name and shape"
            )
        if mask.dtype != torch.bool:
            raise ValueError(f"masks[{name!r}] is {mask.dtype}; it must be torch.bool, True = kept")
    masking = FixedMasking({name: m.to(parameters[name].device) for name, m in masks.items()})
    apply_masks(model, masking.masks)
    return Kept(
        optimizer.register_step_pre_hook(lambda *_: masking.before_step(model, optimizer, 0)),
        optimizer.register_step_post_hook(lambda *_: masking.after_step(model, 0)),
    )
