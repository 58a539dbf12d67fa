"""Run a stage or take it from the cache. What a stage computes depends on its key alone: on what is hashed, never on who ran before in this process.

The one place where masks, weights and optimizer states travel from stage to stage.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pruners.base import Batch, Finding, FixedMasking, Masking, Masks, Measurement, Task, apply_masks, count_kept, count_prunable, full_masks, keep_count
from runner.data.base import Data, Split
from runner.data.batches import Batches, evaluation_batches, scoring_pass
from runner.errors import Stopped
from runner.identity import stage_keys, trains
from runner.machine import Machine
from runner.progress import Watcher
from runner.rng import derive, stream
from runner.spec import Run, Stage
from runner.store import Artefact, State, Store
from runner.train import Feeds, Session, Trained, finite, train

DIVERGED = "diverged_"  # finding: the first epoch of stage <name> whose training loss was not finite
EVALUATION_BATCH = 1000  # no effect on the numbers beyond rounding; bounds memory


@dataclass
class Workbench:
    """What the stages of one run share: data and initial weights are made once, when the first stage needs them."""

    run: Run
    machine: Machine
    store: Store
    watcher: Watcher
    stop: Any = field(default=lambda: False)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Stage name -> cache key."""
        return stage_keys(self.run)

    @cached_property
    def data(self) -> Data:
        """The data set on the device."""
        data: Data = self.run.dataset.load(self.machine.data_dir, self.run.train_fraction).to(self.machine.device)
        return data

    def fresh_model(self, stage: str = "init") -> nn.Module:
        """The network with initial weights on the device: those of the run, or a stage's own new draw."""
        info = self.run.dataset.info()
        model: nn.Module = self.run.model(info.channels, info.classes, info.size, stream(self.run.seed, stage, "weights"))
        if _convolves(model):
            model = model.to(memory_format=torch.channels_last)  # 1.45 times as fast on CPUs (measured), and what tensor cores want
        return self.machine.team.synchronised(model.to(self.machine.device))

    def batches(self, stage: Stage) -> Batches:
        """The images that a stage trains on, batched, shuffled and augmented."""
        d, recipe = self.data, stage.recipe
        assert recipe is not None
        if stage.data is not None:
            return Batches(self._synthetic(stage), torch.zeros_like(d.mean), torch.ones_like(d.std), 1.0, recipe.batch_size, "none", self.run.seed, stage.name)
        return Batches(d.train, d.mean, d.std, d.scale, recipe.batch_size, d.augment, self.run.seed, stage.name)

    def _synthetic(self, stage: Stage) -> Split:
        """As many synthetic images as the training set has, or as the source can make: one fixed set, the same in every stage of the run."""
        d = self.data
        task = replace(self.task(stage, 0), rng=stream(self.run.seed, "synthetic", "images"))
        images, labels = zip(*_up_to(len(d.train), stage.data(task)), strict=True)
        return Split(torch.cat(images)[: len(d.train)], torch.cat(labels)[: len(d.train)]).to(self.machine.device)

    def feeds(self, stage: Stage) -> Feeds:
        """The data of a stage that trains."""
        d = self.data

        def passes(split: Any) -> Any:
            return lambda: evaluation_batches(split, d.mean, d.std, d.scale, EVALUATION_BATCH)

        return Feeds(self.batches(stage), passes(d.test), passes(d.validation) if d.validation else None)

    def task(self, stage: Stage, steps: int) -> Task:
        """What the stage's component may use."""
        d = self.data

        def batches(batch_size: int) -> Iterable[Batch]:
            return scoring_pass(d.train, d.mean, d.std, d.scale, batch_size, self.run.seed, stage.name)

        return Task(
            loss=F.cross_entropy,
            batches=batches,
            density=stage.density,
            steps=steps,
            epochs=trains(stage) if steps else 0,
            rng=stream(self.run.seed, stage.name, "method"),
            measured={name: self._measured(name) for name in stage.needs},
            tick=self._tick,
        )

    def _tick(self, done: int, total: int, what: str) -> None:
        """Progress of a component. It has nothing to checkpoint, so a request to stop ends it here, not minutes later."""
        self.watcher.tick(done, total, what)
        if self.stop():
            raise Stopped

    def _measured(self, name: str) -> Measurement:
        if name == "init":
            return Measurement(tensors={n: p.detach() for n, p in self.fresh_model().named_parameters()})
        artefact = self.store.load(self.keys[name])
        return Measurement(tensors=artefact.findings, report=artefact.meta["report"])


def _up_to(images: int, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches until there are `images`, or no more."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch[1])
        if seen >= images:
            return


def snapshots_wanted(run: Run) -> dict[str, frozenset[float]]:
    """Stage name -> epochs that later stages rewind to."""
    wanted: dict[str, set[float]] = {}
    for stage in run.stages:
        if stage.start.epoch:
            wanted.setdefault(stage.start.stage, set()).add(stage.start.epoch)
    return {name: frozenset(epochs) for name, epochs in wanted.items()}


def is_cached(run: Run, stage: Stage, store: Store, key: str) -> bool:
    """Whether nothing of the stage is left to compute: the artefact is there, and so is every snapshot that this run rewinds to."""
    return store.has(key) and all(store.has_snapshot(key, e) for e in snapshots_wanted(run).get(stage.name, ()))


def run_stage(bench: Workbench, stage: Stage) -> tuple[dict[str, Any], bool]:
    """Compute the stage unless it is cached; its metadata, and whether it was cached."""
    key, store = bench.keys[stage.name], bench.store
    team = bench.machine.team
    if team.decide(lambda: is_cached(bench.run, stage, store, key)):
        return store.meta(key), True
    waiting = f"waiting for {stage.name}, which {{}} computes"
    with team.lead(store.lock(key, lambda holder: bench.watcher.stage(stage.name, waiting.format(holder), 0, ""))):
        if team.decide(lambda: is_cached(bench.run, stage, store, key)):
            return store.meta(key), True
        epochs = trains(stage)
        what = f"{epochs} epochs" if epochs else {"measure": "measuring", "prune": "pruning"}.get(stage.kind, stage.kind)
        bench.watcher.stage(stage.name, f"{stage.name} ({what})", 0, "steps" if epochs else "")
        if team.decide(lambda: store.has(key)):
            _add_snapshots(bench, stage)
        elif team.first or epochs:  # what does not train is not shared
            _compute(bench, stage)
            if epochs and not team.decide(lambda: is_cached(bench.run, stage, store, key)):  # resumed from the checkpoint of a run that rewinds elsewhere
                _add_snapshots(bench, stage)
        if team.first:
            store.checkpoint_path(key).unlink(missing_ok=True)
    return store.meta(key), False


def _compute(bench: Workbench, stage: Stage) -> None:
    """Compute a stage and keep what it leaves."""
    torch.manual_seed(derive(bench.run.seed, stage.name, "torch"))  # for layers that draw, such as dropout
    artefact = {"train": _train, "search": _train, "prune": _prune, "measure": _measure}[stage.kind](bench, stage)
    artefact.meta["report"] = {name: finite(v) if isinstance(v, float) else v for name, v in artefact.meta["report"].items()}
    artefact.meta |= {"stage": stage.name, "kind": stage.kind, "dataset_checksum": bench.data.checksum}
    if bench.machine.team.first:
        bench.store.save(bench.keys[stage.name], artefact)


def _train(bench: Workbench, stage: Stage) -> Artefact:
    begun = time.monotonic()
    model, masking, momentum = _ready_to_train(bench, stage)
    setup = time.monotonic() - begun
    done = _fit(bench, stage, model, masking, momentum, None)
    last = stage.recipe.end * bench.batches(stage).steps_per_epoch - 1  # type: ignore[union-attr]
    _make_effective(model, masking, last)
    check_masked(model, masking.masks, stage)
    return Artefact(
        weights=_state(model),
        masks=masking.masks,
        findings={name: t.detach().cpu() for name, t in masking.trainable.items()},
        optimizer=done.momentum,
        snapshots=done.snapshots,
        meta={"report": masking.report | _divergence(stage, done.history), "seconds": done.seconds + setup, "epochs": trains(stage), "history": done.history},
    )


@torch.no_grad()
def _make_effective(model: nn.Module, masking: Masking, step: int) -> None:
    """Put the weights that the net computed with into the net: where a masking replaces them in the forward pass, these are the result."""
    for name, weight in masking.weights(model, step).items():
        model.get_parameter(name).copy_(weight)
    apply_masks(model, masking.masks)


def _divergence(stage: Stage, history: list[dict[str, Any]]) -> dict[str, Finding]:
    """A training that diverged is a result, and its record says so."""
    epoch = next((row["epoch"] for row in history if row["train_loss"] is None), None)
    return {} if epoch is None else {f"{DIVERGED}{stage.name}": epoch}


def _ready_to_train(bench: Workbench, stage: Stage) -> tuple[nn.Module, Masking, State]:
    """The network at its start, what masks it, and the momentum to start from."""
    model, masks, momentum = _at_start(bench, stage)
    assert stage.recipe is not None
    if stage.component is None:
        return model, FixedMasking(masks), momentum
    steps = stage.recipe.trained_epochs * bench.batches(stage).steps_per_epoch
    return model, stage.component(model, masks, bench.task(stage, steps)), momentum


def _fit(bench: Workbench, stage: Stage, model: nn.Module, masking: Masking, momentum: State, stop_after: int | None) -> Trained:
    assert stage.recipe is not None
    total = stage.recipe.end
    session = Session(
        checkpoint=bench.store.checkpoint_path(bench.keys[stage.name]) if stop_after is None else None,
        every=bench.machine.checkpoint_seconds,
        stop=bench.stop,
        epoch_done=lambda row: bench.watcher.epoch(row, total),
        tick=bench.watcher.tick,
        team=bench.machine.team,
    )
    snapshots = snapshots_wanted(bench.run).get(stage.name, frozenset())
    return train(model, masking, stage.recipe, bench.feeds(stage), F.cross_entropy, session, momentum=momentum, snapshots=snapshots, stop_after=stop_after)


def _add_snapshots(bench: Workbench, stage: Stage) -> None:
    """The stage was trained before anyone wanted this rewinding point: train its first epochs again, which gives the same weights."""
    model, masking, momentum = _ready_to_train(bench, stage)
    done = _fit(bench, stage, model, masking, momentum, math.ceil(max(snapshots_wanted(bench.run)[stage.name])))
    for epoch, state in done.snapshots.items() if bench.machine.team.first else ():
        bench.store.add_snapshot(bench.keys[stage.name], epoch, state)


def _prune(bench: Workbench, stage: Stage) -> Artefact:
    model, masks, _ = _at_start(bench, stage)
    task = bench.task(stage, steps=0)
    begun = time.monotonic()
    masking = stage.component(model, masks, task)
    apply_masks(model, masking.masks)
    check_masked(model, masking.masks, stage)
    return Artefact(
        weights=_state(model), masks=masking.masks, meta={"report": masking.report, "seconds": time.monotonic() - begun, "epochs": 0, "history": []}
    )


def _measure(bench: Workbench, stage: Stage) -> Artefact:
    model, masks, _ = _at_start(bench, stage)
    task = bench.task(stage, steps=0)
    begun = time.monotonic()
    found: Measurement = stage.component(model, masks, task)
    return Artefact(findings=found.tensors, meta={"report": found.report, "seconds": time.monotonic() - begun, "epochs": 0, "history": []})


def _at_start(bench: Workbench, stage: Stage) -> tuple[nn.Module, Masks, State]:
    """The network with the stage's starting weights under its masks, these masks, and the momentum to start from."""
    start, store = stage.start, bench.store
    model = bench.fresh_model(stage.name if start.stage == "reinit" else "init")
    masks, momentum = full_masks(model), {}
    if start.stage not in ("init", "reinit"):
        parent = store.load(bench.keys[start.stage])
        epoch_zero = start.epoch == 0
        weights = store.snapshot(bench.keys[start.stage], start.epoch) if start.epoch else parent.weights
        if not epoch_zero:
            model.load_state_dict(weights)
        masks = parent.masks or masks
        momentum = parent.optimizer if start.resume else {}
    if stage.masks:
        masks = store.load(bench.keys[stage.masks]).masks
    masks = {name: mask.to(bench.machine.device) for name, mask in masks.items()}
    apply_masks(model, masks)
    momentum = {name: m.to(bench.machine.device) * masks[name] if name in masks else m for name, m in momentum.items()}
    return model, masks, momentum


def check_masked(model: nn.Module, masks: Masks, stage: Stage) -> None:
    """Hold a finished stage to its word: pruned weights are exact zeros, and the density is what was asked.

    Raises:
        RuntimeError: a method or the loop broke that; the stage is not kept.
    """
    for name, mask in masks.items():
        alive = int(torch.count_nonzero(model.get_parameter(name).detach()[~mask]))  # not a product: NaN times 0 is NaN
        if alive:
            raise RuntimeError(f"stage {stage.name!r}: {alive} pruned weights of {name} are not zero")
    if stage.density is not None and count_kept(masks) != keep_count(stage.density, count_prunable(masks)):
        wanted = keep_count(stage.density, count_prunable(masks))
        raise RuntimeError(f"stage {stage.name!r} kept {count_kept(masks):,} weights instead of {wanted:,} (density={stage.density:g})")


def _state(model: nn.Module) -> State:
    return {name: t.detach().cpu() for name, t in model.state_dict().items()}


def _convolves(model: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) for m in model.modules())
