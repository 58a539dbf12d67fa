"""What the stages of one run share: data, initial weights, and each stage's batches and task."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, nn

from models.count import Layer, counted_layers
from pruners.base import Batch, Measurement, Task
from runner.data.base import Data, Split
from runner.data.batches import (
    Batches,
    FreshBatches,
    TrainingBatches,
    evaluation_batches,
    scoring_pass,
)
from runner.data.shard import WHOLE, Shard
from runner.display.progress import Watcher
from runner.engine.machine import Machine
from runner.engine.memory import memory_bound
from runner.engine.profile import watched
from runner.engine.store import Store
from runner.engine.tally import Tally
from runner.engine.train import Loaders, Passes
from runner.errors import Damaged, Stopped
from runner.records.provenance import Origin, provenance
from runner.spec.identity import stage_keys
from runner.spec.rng import derive, stream
from runner.spec.run import Run, Stage, trains

# Pixels in a batch of held-out images, of which it has at most 1,000. The size changes results by
# rounding only. On CPUs a batch fits the caches: ResNet-20 evaluates 1.5 times as many 28x28 images
# a second in batches of 167 as of 1,000 (measured). On accelerators the limit bounds memory.
EVALUATION_PIXELS = {True: 128 * 32**2, False: 1000 * 64**2}  # whether on the CPU


@dataclass
class RunContext:
    """What the stages of one run share.

    The data set is loaded, and synthetic images are generated, once: when a stage first needs them.
    """

    run: Run
    machine: Machine
    store: Store
    watcher: Watcher
    stop: Any = field(default=lambda: False)
    loaded: Data | None = None  # the data set on the CPU, if it was loaded before
    made: dict[Any, Split] = field(default_factory=dict)  # source -> its synthetic images

    @cached_property
    def keys(self) -> dict[str, str]:
        """Cache keys by stage name."""
        return stage_keys(self.run)

    @cached_property
    def data(self) -> Data:
        """The data set on the device."""
        machine, run = self.machine, self.run
        data: Data = self.loaded or run.dataset.load(machine.data_dir, run.train_fraction)
        return watched(data.to(machine.device, machine.workers), machine.profile)

    @cached_property
    def memory(self) -> float:
        """Bytes that the graphs of derivatives may take, the same for all stages and processes.

        Processes that share work have to cut a batch alike.
        """
        return self.machine.group.least(memory_bound(self.machine))

    @cached_property
    def origin(self) -> Origin:
        """By which code and on which machine this process computes."""
        return provenance(self.machine.device, self.machine.group.size)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The layers of the network that cost multiply-accumulates, by the name of their weight."""
        info = self.run.dataset.info()
        model = self.run.model(info.channels, info.classes, info.size, Generator())
        return counted_layers(model, (info.channels, info.size, info.size))

    def set_aside(self, error: Damaged, path: Path, remedy: str) -> None:
        """Move a damaged artefact or checkpoint out of the way and print that in one line."""
        moved = self.store.set_aside(path)
        self.watcher.warn(f"{error}; moved to {moved}; {remedy}")

    def fresh_model(self, stage: str = "init") -> nn.Module:
        """The network on the device with initial weights: the run's, or a new draw for `stage`."""
        info, rng = self.run.dataset.info(), stream(self.run.seed, stage, "weights")
        model: nn.Module = self.run.model(info.channels, info.classes, info.size, rng)
        if _convolves(model):
            # 1.45 times as fast on CPUs (measured), and the layout that suits tensor cores.
            model = model.to(memory_format=torch.channels_last)
        return model.to(self.machine.device)

    def seed_layers(self, stage: Stage) -> None:
        """Seed torch's global generator, which layers such as dropout use, for a stage.

        Resuming from a checkpoint restores the generator's saved state.
        """
        torch.manual_seed(derive(self.run.seed, stage.streams, "torch"))

    def batches(self, stage: Stage) -> TrainingBatches:
        """The images that a stage trains on, batched, shuffled and augmented; this process' share.

        The random streams are the stage's own, or those of the stage that it follows.
        """
        d, recipe = self.data, stage.recipe
        assert recipe is not None
        name = stage.start.stage if stage.start.follow else stage.name
        size, seed, shard = recipe.batch_size, self.run.seed, self.machine.group.shard
        if stage.data is None:
            return Batches(d.train, d.mean, d.std, d.scale, size, d.augment, seed, name, shard)
        if getattr(stage.data, "fresh", False):
            draw, device = partial(self._drawn, stage), self.machine.device
            return FreshBatches(draw, device, len(d.train), size, seed, name, shard)
        mean, std = torch.zeros_like(d.mean), torch.ones_like(d.std)
        return Batches(self._synthetic(stage), mean, std, 1.0, size, "none", seed, name, shard)

    def _drawn(self, stage: Stage, images: int, rng: Generator) -> Batch:
        """The first images of the stage's source with this generator, in one batch."""
        source = replace(stage.data, batch_size=max(images, 2))  # the least that it accepts
        x, y = next(iter(source(replace(self.task(stage, 0), rng=rng))))
        return x[:images], y[:images]

    def _synthetic(self, stage: Stage) -> Split:
        """As many synthetic images as the training set has; the same in all stages of the run."""
        if stage.data not in self.made:
            total, rng = len(self.data.train), stream(self.run.seed, "synthetic", "images")
            task = replace(self.task(stage, 0), rng=rng)
            passes = (stage.data(replace(task, round=i)) for i in count())
            images, labels = zip(*_up_to(total, chain.from_iterable(passes)), strict=True)
            split = Split(torch.cat(images)[:total], torch.cat(labels)[:total])
            self.made[stage.data] = split.to(self.machine.device)
        return self.made[stage.data]

    def loaders(self, stage: Stage) -> Loaders:
        """The training batches and held-out sets of a stage that trains."""
        return Loaders(self.batches(stage), *self.held_out(self.machine.group.shard))

    def held_out(self, shard: Shard = WHOLE) -> tuple[Passes, Passes | None]:
        """Passes over the test images, and over held-out training images (None without any)."""
        d, size = self.data, self.run.dataset.info().size
        images = max(1, min(1000, EVALUATION_PIXELS[self.machine.device.type == "cpu"] // size**2))

        def passes(split: Any) -> Any:
            return lambda: evaluation_batches(split, d.mean, d.std, d.scale, images, shard)

        return passes(d.test), passes(d.validation) if d.validation else None

    def task(self, stage: Stage, steps: int, tally: Tally | None = None) -> Task:
        """The task that is passed to the stage's component, whose cost `tally` counts."""
        d, info, tally = self.data, self.run.dataset.info(), tally or Tally()

        def batches(batch_size: int) -> Iterable[Batch]:
            seed = self.run.seed
            return scoring_pass(d.train, d.mean, d.std, d.scale, batch_size, seed, stage.streams)

        return Task(
            loss=F.cross_entropy,
            batches=tally.noted(batches),
            density=stage.density,
            steps=steps,
            epochs=trains(stage) if steps else 0,
            rng=stream(self.run.seed, stage.streams, "method"),
            measured={name: self._measured(name) for name in stage.needs},
            progress=self._progress,
            image=(info.channels, info.size, info.size),
            classes=info.classes,
            memory=self.memory,
            spend=tally.spend,
            team=self.machine.group,
        )

    def _progress(self, done: int, total: int, what: str) -> None:
        """Report a component's progress, which all processes of the run call alike.

        Raises:
            Stopped: a stop of any process was requested. Components have no checkpoint, so they
                stop at once.
        """
        self.watcher.progress(done, total, what)
        if self.machine.group.any(self.stop()):
            raise Stopped

    def _measured(self, name: str) -> Measurement:
        if name == "init":
            initial = self.fresh_model().named_parameters()
            return Measurement(tensors={name: p.detach() for name, p in initial})
        artefact = self.store.load(self.keys[name])
        return Measurement(tensors=artefact.findings, report=artefact.meta["report"])


def _up_to(images: int, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield batches until they contain at least `images` images."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch[1])
        if seen >= images:
            return


def _convolves(model: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) for m in model.modules())
