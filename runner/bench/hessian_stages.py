"""Cost of methods that measure the Hessian before pruning, in epochs of training.

Methods are found by the components of their stages. A spectrum of 500 products takes minutes, so a
stated part is measured and scaled by counts. For the spectrum, this part is STEPS Lanczos steps of
one probe: their intervals give the time of a product, and the start gives the one-time cost. For
the Lipschitz constant, it is one random direction on one mini-batch, scaled by images. The cost of
reorthogonalising against a longer basis is not included: on ResNet-20 it is a hundredth of a
product. Values of weights and images do not change the work.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch.nn.functional as F
from torch import Generator, nn

from pruners.base import (
    Batch,
    Foreseen,
    Measurement,
    Pruner,
    Task,
    Work,
    count_prunable,
    full_masks,
    in_batches,
)
from pruners.curvature.lipschitz import Lipschitz
from pruners.curvature.spectrum import Spectrum
from runner.config.build import build_run
from runner.config.compose import compose_config, method_names
from runner.errors import ConfigError
from runner.spec.run import Run, trains

STEPS, DENSITY, EPOCH = 3, 0.5, 50_000  # EPOCH: images of CIFAR
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


@dataclass(frozen=True)
class Cost:
    """Epochs of training that each stage takes, and the measured share of the products."""

    method: str
    lipschitz: float
    spectrum: float
    prune: float
    products: int  # Hessian-vector products of the whole spectrum
    measured: int  # those that were measured

    @property
    def total(self) -> float:
        """Epochs of all three stages."""
        return self.lipschitz + self.spectrum + self.prune

    def __str__(self) -> str:
        lipschitz, spectrum, mask = self.lipschitz, self.spectrum, self.prune
        parts = f"Lipschitz constant {lipschitz:.2f}, spectrum {spectrum:.2f}, mask {mask:.3f}"
        how = (
            f"measured: {self.measured} of {self.products} Hessian-vector products, one direction"
            " on one mini-batch; scaled by counts"
        )
        return (
            f"method={self.method}, its stages before retraining, ResNet-20: {self.total:.1f}"
            f" epochs of {EPOCH:,} images 3x32x32 ({parts}; {how})"
        )


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


def stage_cost(
    stages: Stages,
    model: nn.Module,
    batch: Batch,
    epoch: Callable[[], object],
    images: int,
    rounds: int,
) -> Cost:
    """Return the median cost over `rounds`, each of which trains and measures in turn.

    Args:
        batch: the images of the Hessian and their labels, on the device of the network.
        epoch: trains the network on `images` images.
    """
    epoch()  # warm-up
    found = [one_round(stages, model, batch, epoch, images) for _ in range(rounds)]
    lipschitz, spectrum, prune = (statistics.median(values) for values in zip(*found, strict=True))
    return Cost(
        stages.method, lipschitz, spectrum, prune, _work(stages.spectrum, model).products, STEPS
    )


def one_round(
    stages: Stages, model: nn.Module, batch: Batch, epoch: Callable[[], object], images: int
) -> tuple[float, float, float]:
    """Return the epochs of each whole stage: the Lipschitz constant, the spectrum, the mask."""
    found = {"init": Measurement({name: p.detach() + 1 for name, p in model.named_parameters()})}
    masks, marks = full_masks(model), [time.perf_counter()]

    def lap() -> float:
        marks.append(time.perf_counter())
        return marks[-1] - marks[-2]

    epoch()
    unit = lap() * EPOCH / images
    part = part_of_lipschitz(stages.lipschitz)
    found["lipschitz"] = part(model, masks, task_of(batch, found))
    lipschitz = lap() * _work(stages.lipschitz, model).passes / _work(part, model).passes
    laps: list[float] = []
    found["spectrum"] = part_of_spectrum(stages.spectrum)(
        model,
        masks,
        replace(task_of(batch, found), progress=lambda done, total, what: laps.append(lap())),
    )
    rest = lap()
    stages.pruner(copy.deepcopy(model), masks, task_of(batch, found))
    return (
        lipschitz / unit,
        extrapolated(laps, rest, _work(stages.spectrum, model).products) / unit,
        lap() / unit,
    )


def extrapolated(laps: list[float], rest: float, products: int) -> float:
    """Return the estimated seconds of a spectrum of `products` products.

    Args:
        laps: seconds of its first products; the first one includes all preparations.
        rest: seconds after the last product.
    """
    return laps[0] + statistics.median(laps[1:]) * (products - 1) + rest


def part_of_lipschitz(whole: Lipschitz) -> Lipschitz:
    """Return the same measurement with one direction on one mini-batch."""
    return replace(
        whole, directions=1, hessian=replace(whole.hessian, n_samples=whole.hessian.batch_size)
    )


def part_of_spectrum(whole: Spectrum) -> Spectrum:
    """Return the same measurement with the first Lanczos steps of one probe."""
    return replace(whole, spectrum=replace(whole.spectrum, steps=STEPS, probes=1))


def _work(component: Foreseen, model: nn.Module) -> Work:
    return component.work(
        count_prunable(full_masks(model)), sum(p.numel() for p in model.parameters()), EPOCH
    )


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
