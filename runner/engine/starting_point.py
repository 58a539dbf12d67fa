"""The network, masks and optimizer state with which a stage begins."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruners.base import Masks, apply_masks, full_masks
from runner.engine.checkpoint import State
from runner.engine.context import RunContext
from runner.engine.divergence import infinite_tensor
from runner.engine.optim import parameter_of
from runner.spec.run import Stage


@dataclass(frozen=True)
class StartingPoint:
    """The masked network with the stage's starting weights, its masks, and the
    optimizer's state (`runner.engine.optim.state_by_name`)."""

    model: nn.Module
    masks: Masks
    momentum: State


def starting_point(context: RunContext, stage: Stage) -> StartingPoint:
    """What a stage begins with, on the device: `stage.start` and the masks of `stage.masks`.

    Raises:
        FloatingPointError: a weight or buffer is NaN or infinite.
    """
    start, store, device = stage.start, context.store, context.machine.device
    model = context.fresh_model(stage.name if start.stage == "reinit" else "init")
    masks: Masks = full_masks(model)
    momentum: State = {}
    if start.stage not in ("init", "reinit"):
        key = context.keys[start.stage]
        parent = store.load(key)
        if start.epoch is None:
            model.load_state_dict(parent.weights)
        elif start.epoch:  # at epoch 0, `model` has the initial weights already
            model.load_state_dict(store.snapshot(key, start.epoch))
        masks = parent.masks or masks
        momentum = parent.optimizer if start.resume else {}
    if stage.masks == "init":
        masks = full_masks(model)
    elif stage.masks:
        pruned = store.load(context.keys[stage.masks])
        masks = pruned.masks
        # Findings of a search are learned values, such as scores, not factors.
        if context.run.stage(stage.masks).kind == "prune":
            _rescale(model, pruned.findings)
    masks = {name: mask.to(device) for name, mask in masks.items()}
    apply_masks(model, masks)
    if what := infinite_tensor(model.state_dict()):
        raise FloatingPointError(f"{what} when the stage begins")
    momentum = {key: _masked(t, masks.get(parameter_of(key))) for key, t in momentum.items()}
    return StartingPoint(model, masks, momentum)


def _masked(state: Tensor, mask: Tensor | None) -> Tensor:
    """An optimizer's state of a weight, zero where the mask prunes; a number of steps stays."""
    return state if mask is None or mask.shape != state.shape else state.to(mask.device) * mask


@torch.no_grad()
def _rescale(model: nn.Module, factors: State) -> None:
    """Multiply weights by the factors of their masks (pruners.base.FixedMasking.factors)."""
    for name, factor in factors.items():
        weight = model.get_parameter(name)
        weight.mul_(factor.to(weight))
