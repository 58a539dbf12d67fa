"""Runs stages or loads them from the cache.

A stage's result depends only on what its key hashes, never on what ran before in the same process.
This module alone passes masks, weights and optimizer states from stage to stage.
"""

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models.connected import empty_layers, reached_outputs
from pruners.base import (
    Finding,
    FixedMasking,
    Masking,
    Masks,
    Measurement,
    Observed,
    apply_masks,
    count_kept,
    count_prunable,
    full_masks,
    keep_count,
)
from runner.engine.checkpoint import State
from runner.engine.context import RunContext
from runner.engine.loading import load
from runner.engine.machine import Machine
from runner.engine.store import Artefact, Store
from runner.engine.train import LoopOptions, Trained, finite, train
from runner.spec.findings import CONNECTED, DIVERGED, EMPTY, REACHED
from runner.spec.identity import stage_keys
from runner.spec.run import Run, Stage, snapshots_wanted, trains


def is_cached(run: Run, stage: Stage, store: Store, key: str) -> bool:
    """Whether the stage's artefact and all snapshots that this run rewinds to are in the cache."""
    return store.has(key) and all(
        store.has_snapshot(key, e) for e in snapshots_wanted(run).get(stage.name, ())
    )


def run_stage(context: RunContext, stage: Stage) -> tuple[dict[str, Any], bool]:
    """Compute the stage unless it is cached; return its metadata and whether it was cached."""
    key, store = context.keys[stage.name], context.store
    team = context.machine.team
    if team.broadcast_decision(lambda: is_cached(context.run, stage, store, key)):
        return store.meta(key), True
    waiting = f"waiting for {stage.name}, which {{}} computes"
    with team.lead(
        store.lock(
            key, lambda holder: context.watcher.stage(stage.name, waiting.format(holder), 0, "")
        )
    ):
        if team.broadcast_decision(lambda: is_cached(context.run, stage, store, key)):
            return store.meta(key), True
        epochs = trains(stage)
        what = (
            f"{epochs} epochs"
            if epochs
            else {"measure": "measuring", "prune": "pruning", "load": "loading and testing"}.get(
                stage.kind, stage.kind
            )
        )
        context.watcher.stage(stage.name, f"{stage.name} ({what})", 0, "steps" if epochs else "")
        if team.broadcast_decision(lambda: store.has(key)):
            _add_snapshots(context, stage)
        elif team.first or stage.recipe:  # only training is distributed
            _compute(context, stage)
            # Snapshots can be missing if the training resumed from another run's checkpoint.
            if epochs and not team.broadcast_decision(
                lambda: is_cached(context.run, stage, store, key)
            ):
                _add_snapshots(context, stage)
        if team.first:
            store.checkpoint_path(key).unlink(missing_ok=True)
    return store.meta(key), False


def _compute(context: RunContext, stage: Stage) -> None:
    """Compute a stage and store its artefact."""
    context.seed_layers(stage)
    artefact = {
        "train": _train,
        "search": _train,
        "prune": _prune,
        "measure": _measure,
        "load": load,
    }[stage.kind](context, stage)
    artefact.meta["report"] = {
        name: finite(v) if isinstance(v, float) else v
        for name, v in artefact.meta["report"].items()
    }
    artefact.meta |= {
        "stage": stage.name,
        "kind": stage.kind,
        "dataset_checksum": context.data.checksum,
    }
    if context.machine.team.first:
        context.store.save(context.keys[stage.name], artefact)


def _train(context: RunContext, stage: Stage) -> Artefact:
    begun = time.monotonic()
    model, masking, momentum = _ready_to_train(context, stage)
    setup = time.monotonic() - begun
    done = _fit(context, stage, model, masking, momentum, None)
    last = stage.recipe.end * context.batches(stage).steps_per_epoch - 1  # type: ignore[union-attr]
    _make_effective(model, masking, last)
    check_masked(model, masking.masks, stage)
    report = (
        masking.report
        | _divergence(stage, done.history)
        | _cut_off_now(context, stage, model, masking.masks)
    )
    meta = {
        "report": report,
        "seconds": done.seconds + setup,
        "epochs": trains(stage),
        "history": done.history,
    }
    return Artefact(
        weights=_state(model),
        masks=masking.masks,
        findings={name: t.detach().cpu() for name, t in masking.trainable.items()},
        optimizer=done.momentum,
        snapshots=done.snapshots,
        meta=meta | _series(stage, masking.series if isinstance(masking, Observed) else {}),
    )


@torch.no_grad()
def _make_effective(model: nn.Module, masking: Masking, step: int) -> None:
    """Copy the weights of the forward pass into the model.

    Where a masking replaces parameters in the forward pass, the replacements are the result.
    """
    for name, weight in masking.weights(model, step).items():
        model.get_parameter(name).copy_(weight)
    apply_masks(model, masking.masks)


def _divergence(stage: Stage, history: list[dict[str, Any]]) -> dict[str, Finding]:
    """The first epoch without a finite training loss as a finding; {} if there is none.

    A diverged training is a valid result. A row of epoch 0 has no training loss.
    """
    epoch = next(
        (row["epoch"] for row in history if row["train_loss"] is None and row["epoch"]), None
    )
    return {} if epoch is None else {f"{DIVERGED}{stage.name}": epoch}


def _ready_to_train(context: RunContext, stage: Stage) -> tuple[nn.Module, Masking, State]:
    """The network at the stage's start, its masking, and the momentum to start from."""
    model, masks, momentum = _at_start(context, stage)
    assert stage.recipe is not None
    if stage.component is None:
        return model, FixedMasking(masks), momentum
    steps = stage.recipe.trained_epochs * context.batches(stage).steps_per_epoch
    return model, stage.component(model, masks, context.task(stage, steps)), momentum


def _fit(
    context: RunContext,
    stage: Stage,
    model: nn.Module,
    masking: Masking,
    momentum: State,
    stop_after: int | None,
) -> Trained:
    assert stage.recipe is not None
    total = stage.recipe.end
    options = LoopOptions(
        checkpoint=(
            context.store.checkpoint_path(context.keys[stage.name]) if stop_after is None else None
        ),
        every=context.machine.checkpoint_seconds,
        stop=context.stop,
        epoch_done=lambda row: context.watcher.epoch(row, total),
        tick=context.watcher.tick,
        team=context.machine.team,
    )
    snapshots = snapshots_wanted(context.run).get(stage.name, frozenset())
    return train(
        model,
        masking,
        stage.recipe,
        context.loaders(stage),
        F.cross_entropy,
        options,
        momentum=momentum,
        snapshots=snapshots,
        stop_after=stop_after,
    )


def _add_snapshots(context: RunContext, stage: Stage) -> None:
    """Add snapshots to a stage that was trained without them.

    Its first epochs are trained again, which gives the same weights.
    """
    context.seed_layers(stage)
    model, masking, momentum = _ready_to_train(context, stage)
    done = _fit(
        context,
        stage,
        model,
        masking,
        momentum,
        math.ceil(max(snapshots_wanted(context.run)[stage.name])),
    )
    for epoch, state in done.snapshots.items() if context.machine.team.first else ():
        context.store.add_snapshot(context.keys[stage.name], epoch, state)


def _prune(context: RunContext, stage: Stage) -> Artefact:
    model, masks, _ = _at_start(context, stage)
    task = context.task(stage, steps=0)
    begun = time.monotonic()
    masking = stage.component(model, masks, task)
    apply_masks(model, masking.masks)
    check_masked(model, masking.masks, stage)
    report = masking.report | _cut_off(model, masking.masks, task.image)
    return Artefact(
        weights=_state(model),
        masks=masking.masks,
        findings=masking.factors,
        meta={"report": report, "seconds": time.monotonic() - begun, "epochs": 0, "history": []},
    )


def _cut_off(model: nn.Module, masks: Masks, image: tuple[int, int, int]) -> dict[str, Finding]:
    """Findings on what the masks disconnect; {} for most masks.

    They count outputs that no input reaches, and layers without a kept weight.
    """
    reached, outputs = reached_outputs(model, masks, image)
    empty = empty_layers(masks)
    findings: dict[str, Finding] = {CONNECTED: 0} if not reached else {}
    findings |= {REACHED: reached} if reached < outputs else {}
    return findings | ({EMPTY: empty} if empty else {})


def _cut_off_now(
    context: RunContext, stage: Stage, model: nn.Module, masks: Masks
) -> dict[str, Finding]:
    """The findings of `_cut_off` after a training that has changed the masks of a prune stage.

    They replace that stage's findings; None where one no longer applies.
    """
    if stage.kind != "train" or stage.component is None or stage.masks is None:
        return {}
    before = context.store.load(context.keys[stage.masks]).masks
    if all(torch.equal(mask.cpu(), before[name]) for name, mask in masks.items()):
        return {}
    info = context.run.dataset.info()
    found = _cut_off(model, masks, (info.channels, info.size, info.size))
    past = context.store.meta(context.keys[stage.masks])["report"]
    return {key: None for key in (CONNECTED, REACHED, EMPTY) if key in past} | found


def _measure(context: RunContext, stage: Stage) -> Artefact:
    model, masks, _ = _at_start(context, stage)
    task = context.task(stage, steps=0)
    begun = time.monotonic()
    found: Measurement = stage.component(model, masks, task)
    meta = {"report": found.report, "seconds": time.monotonic() - begun, "epochs": 0, "history": []}
    return Artefact(findings=found.tensors, meta=meta | _series(stage, found.series))


def _series(stage: Stage, series: dict[str, list[float]]) -> dict[str, Any]:
    """A stage's series of numbers for figures, as an entry of its metadata; {} without any.

    Raises:
        FloatingPointError: a number is not finite.
    """
    for name, numbers in series.items():
        if not all(map(math.isfinite, numbers)):
            raise FloatingPointError(
                f"stage {stage.name!r}: series {name} is not finite: the weights or what was"
                " computed of them have overflowed"
            )
    return {"series": series} if series else {}


def _at_start(context: RunContext, stage: Stage) -> tuple[nn.Module, Masks, State]:
    """The masked network with the stage's starting weights, its masks, and its momentum."""
    start, store = stage.start, context.store
    model = context.fresh_model(stage.name if start.stage == "reinit" else "init")
    masks, momentum = full_masks(model), {}
    if start.stage not in ("init", "reinit"):
        parent = store.load(context.keys[start.stage])
        epoch_zero = start.epoch == 0
        weights = (
            store.snapshot(context.keys[start.stage], start.epoch)
            if start.epoch
            else parent.weights
        )
        if not epoch_zero:
            model.load_state_dict(weights)
        masks = parent.masks or masks
        momentum = parent.optimizer if start.resume else {}
    if stage.masks:
        pruned = store.load(context.keys[stage.masks])
        masks = pruned.masks
        # Findings of a search are learned values, such as scores, not factors.
        if context.run.stage(stage.masks).kind == "prune":
            _rescale(model, pruned.findings)
    masks = {name: mask.to(context.machine.device) for name, mask in masks.items()}
    apply_masks(model, masks)
    momentum = {
        name: m.to(context.machine.device) * masks[name] if name in masks else m
        for name, m in momentum.items()
    }
    return model, masks, momentum


@torch.no_grad()
def _rescale(model: nn.Module, factors: State) -> None:
    """Multiply weights by the factors of their masks (pruners.base.FixedMasking.factors)."""
    for name, factor in factors.items():
        weight = model.get_parameter(name)
        weight.mul_(factor.to(weight))


def check_masked(model: nn.Module, masks: Masks, stage: Stage) -> None:
    """Check a finished stage: pruned weights are exact zeros, and the density is the requested one.

    The density is not checked where it holds in expectation only.

    Raises:
        RuntimeError: a check failed, so the method or the loop is wrong; nothing is stored.
    """
    for name, mask in masks.items():
        # Indexed rather than multiplied by the mask: NaN times 0 is NaN.
        alive = int(torch.count_nonzero(model.get_parameter(name).detach()[~mask]))
        if alive:
            raise RuntimeError(
                f"stage {stage.name!r}: {alive} pruned weights of {name} are not zero"
            )
    if (
        stage.density is not None
        and stage.exact
        and count_kept(masks) != keep_count(stage.density, count_prunable(masks))
    ):
        wanted = keep_count(stage.density, count_prunable(masks))
        raise RuntimeError(
            f"stage {stage.name!r} kept {count_kept(masks):,} weights instead of {wanted:,}"
            f" (density={stage.density:g})"
        )


def _state(model: nn.Module) -> State:
    return {name: t.detach().cpu() for name, t in model.state_dict().items()}


def plan(run: Run, machine: Machine, keys: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """One row per stage: name, kind, key, epochs, cached. No stage is run."""
    store, keys = Store(machine.cache_dir), keys or stage_keys(run)
    return [
        {
            "name": s.name,
            "kind": s.kind,
            "key": keys[s.name],
            "epochs": trains(s),
            "cached": is_cached(run, s, store, keys[s.name]),
        }
        for s in run.stages
    ]
