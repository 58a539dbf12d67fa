"""Runs stages or loads them from the cache.

A stage's result depends only on what its key hashes, never on what ran before in the same process.
Masks, weights and optimizer states pass from stage to stage only through the cache.
"""

import os
import time

from pruners.base import Foreseen, Measurement, Passes, apply_masks, count_prunable
from runner.engine.allocator import return_freed_memory
from runner.engine.checkpoint import cpu_state
from runner.engine.context import RunContext
from runner.engine.divergence import divergence_of, finite, is_diverged
from runner.engine.given_masks import read
from runner.engine.loading import load
from runner.engine.machine import Machine
from runner.engine.stage_checks import checked, disconnected, series_entry, untrained
from runner.engine.stage_meta import COST, ENTRY, PlannedStage, StageMeta
from runner.engine.starting_point import starting_point
from runner.engine.store import Artefact, Store
from runner.engine.tally import Tally
from runner.engine.train_stage import add_snapshots, train_stage
from runner.errors import Damaged
from runner.records.stored import ORIGIN
from runner.spec.identity import stage_keys
from runner.spec.run import Run, Stage, snapshots_wanted, trains

# What the progress display shows for stages that do not train.
ACTIVITIES = {
    "measure": "measuring",
    "prune": "pruning",
    "load": "loading and testing",
    "read": "reading",
}


# Kinds of stages that all processes of a run compute, since they divide the work.
DIVIDED = ("measure", "prune", "search", "train")


def is_cached(run: Run, stage: Stage, store: Store, key: str) -> bool:
    """Whether the stage's artefact and all snapshots that this run rewinds to are in the cache.

    A stage that diverged has no snapshots.
    """
    wanted = snapshots_wanted(run).get(stage.name, ())
    return store.has(key) and (
        all(store.has_snapshot(key, epoch) for epoch in wanted) or is_diverged(store.meta(key))
    )


def run_stage(context: RunContext, stage: Stage) -> tuple[StageMeta, bool]:
    """Compute the stage unless it is cached; return its metadata and whether it was cached."""
    key, store, group = context.keys[stage.name], context.store, context.machine.group

    def cached(locked: bool = False) -> bool:
        return group.broadcast_decision(lambda: _is_sound(context, stage, locked))

    def waiting(holder: str) -> None:
        title = f"waiting for {stage.name}, which {holder} computes"
        context.watcher.stage(stage.name, title)

    if cached():
        return stored_meta(store, key), True
    with group.lead(store.lock(key, waiting)):
        if cached(locked=True):
            return stored_meta(store, key), True
        epochs = trains(stage)
        trained = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        activity = trained if epochs else ACTIVITIES.get(stage.kind, stage.kind)
        title = f"{stage.name} ({activity})"
        context.watcher.stage(stage.name, title, epochs)
        wanted = snapshots_wanted(context.run).get(stage.name)
        # Without working locks, another process can have stored the stage since `cached`.
        if wanted and group.broadcast_decision(lambda: store.has(key)):
            add_snapshots(context, stage)
        elif group.first or stage.kind in DIVIDED:
            _compute(context, stage)
            # Snapshots can be missing if the training resumed from another run's checkpoint.
            if epochs and not cached():
                add_snapshots(context, stage)
        if group.first:
            store.checkpoint_path(key).unlink(missing_ok=True)
    return stored_meta(store, key), False


def stored_meta(store: Store, key: str) -> StageMeta:
    """The metadata of a stored stage, with its divergence, or None for a finite stage.

    Stages that were stored before version 0.2.0 are checked now.
    """
    meta = store.meta(key)
    if ENTRY not in meta:
        found = divergence_of(store.load(key))
        meta[ENTRY] = found.entry if found else None
    return meta


def _is_sound(context: RunContext, stage: Stage, locked: bool) -> bool:
    """Whether the stage is cached as `is_cached` requires, and each byte is as it was written.

    With the lock, what is stored in its place and is damaged is set aside.
    """
    store, key = context.store, context.keys[stage.name]
    if not os.path.lexists(store.path(key)):
        return False
    try:
        store.verify(key)
    except Damaged as error:
        if locked:
            context.set_aside(error, store.path(key), f"stage {stage.name} is computed again")
        return False
    return is_cached(context.run, stage, store, key)


def _compute(context: RunContext, stage: Stage) -> None:
    """Compute a stage and store its artefact."""
    context.seed_layers(stage)
    artefact = checked(stage, lambda: COMPUTE[stage.kind](context, stage))
    report = artefact.meta["report"].items()
    artefact.meta |= {
        "report": {name: finite(v) if isinstance(v, float) else v for name, v in report},
        "stage": stage.name,
        "kind": stage.kind,
        "dataset_checksum": context.data.checksum,
        ORIGIN: context.origin.as_json(),
    }
    if context.machine.group.first:
        context.store.save(context.keys[stage.name], artefact)
    return_freed_memory()


def _prune(context: RunContext, stage: Stage) -> Artefact:
    start, tally = starting_point(context, stage), Tally()
    task = context.task(stage, 0, tally)
    started = time.monotonic()
    masking = stage.component(start.model, start.masks, task)
    apply_masks(start.model, masking.masks)
    report = masking.report | disconnected(start.model, masking.masks, task.image)
    return Artefact(
        weights=cpu_state(start.model),
        masks=masking.masks,
        findings=masking.factors,
        meta=untrained(report, started) | {COST: tally.cost(context.layers)},
    )


def _measure(context: RunContext, stage: Stage) -> Artefact:
    start, tally = starting_point(context, stage), Tally()
    started = time.monotonic()
    measured: Measurement = stage.component(start.model, start.masks, context.task(stage, 0, tally))
    meta = untrained(measured.report, started) | series_entry(stage, measured.series)
    if isinstance(stage.component, Foreseen):
        parameters = sum(p.numel() for p in start.model.parameters())
        images = len(context.data.train)
        work = stage.component.work(count_prunable(start.masks), parameters, images)
        tally.spend(start.masks, Passes(work.passes), 1)
    return Artefact(findings=measured.tensors, meta=meta | {COST: tally.cost(context.layers)})


# The function that computes the artefact of a stage, by the stage's kind.
COMPUTE = {
    "train": train_stage,
    "search": train_stage,
    "prune": _prune,
    "measure": _measure,
    "load": load,
    "read": read,
}


def plan(run: Run, machine: Machine, keys: dict[str, str] | None = None) -> list[PlannedStage]:
    """One row per stage: name, kind, key, epochs, cached. No stage is run.

    Stages after a cached one that diverged are never computed; they count as cached.
    """
    store, keys = Store(machine.cache_dir), keys or stage_keys(run)
    cached = [is_cached(run, stage, store, keys[stage.name]) for stage in run.stages]
    if True in cached and False in cached[cached.index(True) :]:
        for i, stage in enumerate(run.stages):
            if cached[i] and not stage.extra and is_diverged(store.meta(keys[stage.name])):
                cached[i:] = [True] * len(cached[i:])
                break
    return [
        {
            "name": stage.name,
            "kind": stage.kind,
            "key": keys[stage.name],
            "epochs": trains(stage),
            "cached": there,
        }
        for stage, there in zip(run.stages, cached, strict=True)
    ]
