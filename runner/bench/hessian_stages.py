"""The stages of methods that measure the Hessian before pruning, found by their components."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Generator

from pruners.base import (
    Batch,
    Measurement,
    Pruner,
    Task,
    in_batches,
)
from pruners.curvature.lipschitz import Lipschitz
from pruners.curvature.spectrum import Spectrum
from runner.config.build import build_run
from runner.config.compose import compose_config, method_names
from runner.errors import ConfigError
from runner.spec.run import Run, trains

DENSITY = 0.5
SETTING = ["dataset=cifar10", "model=resnet20"]


@dataclass(frozen=True)
class Stages:
    """The measurements of a method before it prunes, and the pruning, with the method's options.

    Args:
        epochs_before: of training before the measurements.
        epochs: of the retraining.
    """

    method: str
    lipschitz: Lipschitz
    spectrum: Spectrum
    pruner: Pruner
    epochs_before: int
    epochs: int


def methods(setting: Sequence[str] = SETTING) -> Iterator[Stages]:
    """Yield the stages of every method that prunes by a spectrum and a Lipschitz constant."""
    for name in method_names():
        try:
            run = build_run(compose_config([f"method={name}", *setting]))
        except ConfigError:  # the method requires a density
            continue
        yield from _stages(name, run)


def _stages(name: str, run: Run) -> Iterator[Stages]:
    by_name = {stage.name: stage.component for stage in run.stages}
    for stage in run.stages:
        needs = [by_name.get(need) for need in stage.needs]
        lipschitz = next((c for c in needs if isinstance(c, Lipschitz)), None)
        spectrum = next((c for c in needs if isinstance(c, Spectrum)), None)
        if stage.kind == "prune" and lipschitz and spectrum:
            place = run.stages.index(stage)
            before, after = (
                sum(map(trains, part)) for part in (run.stages[:place], run.stages[place:])
            )
            yield Stages(name, lipschitz, spectrum, stage.component, before, after)


def task_of(batch: Batch, found: dict[str, Measurement]) -> Task:
    """A task that shows these images to a stage, in their order."""
    x, y = batch
    shape = (x.shape[1], x.shape[2], x.shape[3])

    return Task(
        F.cross_entropy,
        partial(in_batches, x, y),
        DENSITY,
        steps=0,
        rng=Generator().manual_seed(0),
        measured=found,
        image=shape,
        classes=10,
    )
