"""Stages of kind train and search: from a starting point through the loop to an artefact."""

import math
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from pruners.base import (
    Finding,
    FixedMasking,
    Masking,
    Masks,
    Observed,
    apply_masks,
    full_masks,
)
from runner.engine.checkpoint import State, checkpoint_payload, cpu_state
from runner.engine.context import RunContext
from runner.engine.profile import read_together
from runner.engine.stage_checks import disconnected, diverged, series_entry
from runner.engine.stage_meta import COST, StageMeta
from runner.engine.starting_point import starting_point
from runner.engine.store import Artefact
from runner.engine.tally import Tally
from runner.engine.train import LoopOptions, Trained, train
from runner.errors import Damaged
from runner.spec.findings import CONNECTED, EMPTY, REACHED
from runner.spec.run import Stage, snapshots_wanted, trains


def train_stage(context: RunContext, stage: Stage) -> Artefact:
    """The artefact of a training, with its history, momentum and snapshots."""
    assert stage.recipe is not None
    started, tally = time.monotonic(), Tally()
    model, masking, momentum = ready_to_train(context, stage, tally)
    setup = time.monotonic() - started
    done = _fit(context, stage, model, masking, momentum, tally)
    meta: StageMeta = {
        "seconds": done.seconds + setup,
        "epochs": trains(stage),
        "history": done.history,
        COST: tally.cost(context.layers),
    }
    if done.divergence:
        return diverged({**meta, "epochs": len(done.history)}, done.divergence)
    _make_effective(model, masking, stage.recipe.end * context.batches(stage).steps_per_epoch - 1)
    meta["report"] = masking.report | _newly_disconnected(context, stage, model, masking.masks)
    return Artefact(
        weights=cpu_state(model),
        masks=masking.masks,
        findings={name: t.detach().cpu() for name, t in masking.trainable.items()},
        optimizer=done.momentum,
        snapshots=done.snapshots,
        meta=meta | series_entry(stage, masking.series if isinstance(masking, Observed) else {}),
    )


def add_snapshots(context: RunContext, stage: Stage) -> None:
    """Add snapshots to a stage that was trained without them.

    Its first epochs are trained again, which gives the same weights.
    """
    context.seed_layers(stage)
    model, masking, momentum = ready_to_train(context, stage, Tally())
    last = math.ceil(max(snapshots_wanted(context.run)[stage.name]))
    done = _fit(context, stage, model, masking, momentum, Tally(), stop_after=last)
    for epoch, state in done.snapshots.items() if context.machine.group.first else ():
        context.store.add_snapshot(context.keys[stage.name], epoch, state)


def ready_to_train(
    context: RunContext, stage: Stage, tally: Tally | None = None
) -> tuple[nn.Module, Masking, State]:
    """The network at the stage's start, its masking, and the momentum to start from."""
    start = starting_point(context, stage)
    assert stage.recipe is not None
    if stage.component is None:
        return start.model, FixedMasking(start.masks), start.momentum
    per_epoch = context.batches(stage).steps_per_epoch
    steps = stage.recipe.end * per_epoch - stage.recipe.first_step(per_epoch)
    masking = stage.component(start.model, start.masks, context.task(stage, steps, tally))
    return start.model, masking, start.momentum


def _fit(
    context: RunContext,
    stage: Stage,
    model: nn.Module,
    masking: Masking,
    momentum: State,
    tally: Tally,
    stop_after: int | None = None,
) -> Trained:
    """Train the stage; with `stop_after`, to the end of that epoch and without a checkpoint."""
    assert stage.recipe is not None
    total, path = stage.recipe.end, context.store.checkpoint_path(context.keys[stage.name])
    if stop_after is None:
        context.machine.group.broadcast_decision(lambda: _set_aside_damaged(context, stage, path))
    loaders = context.loaders(stage)
    options = LoopOptions(
        checkpoint=path if stop_after is None else None,
        every=context.machine.checkpoint_seconds,
        stop=context.stop,
        epoch_done=lambda row: context.watcher.epoch(row, total),
        progress=context.watcher.progress,
        group=context.machine.group,
        tally=tally,
    )
    return train(
        model,
        masking,
        stage.recipe,
        replace(loaders, training=read_together(loaders.training)),
        F.cross_entropy,
        options,
        momentum=momentum,
        snapshots=snapshots_wanted(context.run).get(stage.name, frozenset()),
        stop_after=stop_after,
    )


def _set_aside_damaged(context: RunContext, stage: Stage, path: Path) -> bool:
    """Whether the stage's checkpoint was damaged; it is then set aside."""
    try:
        checkpoint_payload(path)
    except Damaged as error:
        context.set_aside(error, path, f"stage {stage.name} starts from its beginning")
        return True
    return False


@torch.no_grad()
def _make_effective(model: nn.Module, masking: Masking, step: int) -> None:
    """Copy the weights of the forward pass into the model.

    Where a masking replaces parameters in the forward pass, the replacements are the result.
    """
    for name, weight in masking.weights(model, step).items():
        model.get_parameter(name).copy_(weight)
    apply_masks(model, masking.masks)


def _newly_disconnected(
    context: RunContext, stage: Stage, model: nn.Module, masks: Masks
) -> dict[str, Finding]:
    """The findings of `disconnected` after a training that has changed the masks it began with.

    They replace those of the stage that the masks are from; None where one no longer applies.
    """
    if stage.kind != "train" or stage.component is None:
        return {}
    source = context.keys.get(stage.masks or stage.start.stage)  # None: full masks
    before = (context.store.load(source).masks if source else {}) or full_masks(model)
    if all(torch.equal(mask.cpu(), before[name].cpu()) for name, mask in masks.items()):
        return {}
    info = context.run.dataset.info()
    findings = disconnected(model, masks, (info.channels, info.size, info.size))
    past = context.store.meta(source)["report"] if source else {}
    return {key: None for key in (CONNECTED, REACHED, EMPTY) if key in past} | findings
