"""What methods that measure the Hessian before they prune cost, in epochs of training: the bench's part on their stages, found by what they are made of.

A spectrum of 500 products takes minutes, so a stated part is measured and scaled by counts: STEPS Lanczos steps of one probe, whose intervals say what a
product takes and whose beginning what is paid once; the Lipschitz constant with one random direction on one mini-batch, scaled by images. Left out is what
reorthogonalising against a longer basis takes: on ResNet-20 a hundredth of a product. Values of weights and images do not change the work.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Generator, nn

from pruners.base import Batch, Foreseen, Measurement, Pruner, Task, Work, count_prunable, full_masks
from pruners.curvature.lipschitz import Lipschitz
from pruners.curvature.spectrum import Spectrum
from runner.config.build import build_run
from runner.config.compose import compose_config, method_names
from runner.errors import ConfigError
from runner.spec.run import Run

STEPS, DENSITY, EPOCH = 3, 0.5, 50_000  # EPOCH: images of CIFAR
SETTING = ["dataset=cifar10", "model=resnet20"]


@dataclass(frozen=True)
class Stages:
    """What a method measures before it prunes, and the pruning, with its own options."""

    method: str
    lipschitz: Lipschitz
    spectrum: Spectrum
    pruner: Pruner


@dataclass(frozen=True)
class Cost:
    """Epochs of training that each stage takes, and how much of it was measured."""

    method: str
    lipschitz: float
    spectrum: float
    prune: float
    products: int  # of the spectrum, all of them
    measured: int  # of these

    @property
    def total(self) -> float:
        """All three."""
        return self.lipschitz + self.spectrum + self.prune

    def __str__(self) -> str:
        parts = f"Lipschitz constant {self.lipschitz:.2f}, spectrum {self.spectrum:.2f}, mask {self.prune:.3f}"
        how = f"measured: {self.measured} of {self.products} Hessian-vector products, one direction on one mini-batch; scaled by counts"
        return f"method={self.method}, its stages before retraining, ResNet-20: {self.total:.1f} epochs of {EPOCH:,} images 3x32x32 ({parts}; {how})"


def methods() -> Iterator[Stages]:
    """Every method that prunes by a spectrum and a Lipschitz constant."""
    for name in method_names():
        try:
            run = build_run(compose_config([f"method={name}", *SETTING]))
        except ConfigError:  # it needs a density
            continue
        yield from _stages(name, run)


def _stages(name: str, run: Run) -> Iterator[Stages]:
    by_name = {stage.name: stage.component for stage in run.stages}
    for stage in run.stages:
        needs = [by_name.get(need) for need in stage.needs]
        lipschitz, spectrum = (next((c for c in needs if isinstance(c, kind)), None) for kind in (Lipschitz, Spectrum))
        if stage.kind == "prune" and isinstance(lipschitz, Lipschitz) and isinstance(spectrum, Spectrum):
            yield Stages(name, lipschitz, spectrum, stage.component)


def stage_cost(stages: Stages, model: nn.Module, batch: Batch, epoch: Callable[[], object], images: int, rounds: int) -> Cost:
    """The median of some rounds, each of which trains and measures turn by turn.

    Args:
        batch: the images of the Hessian and their labels, on the device of the net.
        epoch: trains that net on `images` images.
    """
    epoch()  # warms up
    found = [one_round(stages, model, batch, epoch, images) for _ in range(rounds)]
    lipschitz, spectrum, prune = (statistics.median(values) for values in zip(*found, strict=True))
    return Cost(stages.method, lipschitz, spectrum, prune, _work(stages.spectrum, model).products, STEPS)


def one_round(stages: Stages, model: nn.Module, batch: Batch, epoch: Callable[[], object], images: int) -> tuple[float, float, float]:
    """Epochs that the whole of each stage takes: the Lipschitz constant, the spectrum, the mask."""
    found = {"init": Measurement({name: p.detach() + 1 for name, p in model.named_parameters()})}
    masks, marks = full_masks(model), [time.perf_counter()]

    def lap() -> float:
        marks.append(time.perf_counter())
        return marks[-1] - marks[-2]

    epoch()
    unit = lap() * EPOCH / images
    part = part_of_lipschitz(stages.lipschitz)
    found["lipschitz"] = part(model, masks, _task(batch, found))
    lipschitz = lap() * _work(stages.lipschitz, model).passes / _work(part, model).passes
    laps: list[float] = []
    found["spectrum"] = part_of_spectrum(stages.spectrum)(model, masks, replace(_task(batch, found), tick=lambda done, total, what: laps.append(lap())))
    rest = lap()
    stages.pruner(copy.deepcopy(model), masks, _task(batch, found))
    return lipschitz / unit, extrapolated(laps, rest, _work(stages.spectrum, model).products) / unit, lap() / unit


def extrapolated(laps: list[float], rest: float, products: int) -> float:
    """Seconds of a spectrum of so many products, from those of its first few, the first with all preparations, and of what comes after the last."""
    return laps[0] + statistics.median(laps[1:]) * (products - 1) + rest


def part_of_lipschitz(whole: Lipschitz) -> Lipschitz:
    """One direction on one mini-batch."""
    return replace(whole, directions=1, hessian=replace(whole.hessian, n_samples=whole.hessian.batch_size))


def part_of_spectrum(whole: Spectrum) -> Spectrum:
    """The first Lanczos steps of one probe."""
    return replace(whole, spectrum=replace(whole.spectrum, steps=STEPS, probes=1))


def _work(component: Foreseen, model: nn.Module) -> Work:
    return component.work(count_prunable(full_masks(model)), sum(p.numel() for p in model.parameters()), EPOCH)


def _task(batch: Batch, found: dict[str, Measurement]) -> Task:
    x, y = batch
    shape = (x.shape[1], x.shape[2], x.shape[3])

    def batches(size: int) -> Iterator[Batch]:
        return zip(x.split(size), y.split(size), strict=True)

    return Task(F.cross_entropy, batches, DENSITY, steps=0, rng=Generator().manual_seed(0), measured=found, image=shape, classes=10)
