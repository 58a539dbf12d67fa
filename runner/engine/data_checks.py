"""The data of a run, loaded and checked before any work is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from pruners.base import ReadsImages
from runner.data.base import Data, DataError
from runner.data.counts import training_images
from runner.engine.machine import Machine
from runner.engine.preflight import Shared, check
from runner.errors import ConfigError
from runner.spec.rng import stream
from runner.spec.run import Run, Stage

SHOWN = 3  # batch sizes that a message suggests
FEW = 500  # images per class, below which a plan reads the labels


def checked_data(run: Run, machine: Machine, missing: set[str]) -> Data | None:
    """The data of a run, on the CPU; None if no stage is to be computed.

    Args:
        missing: names of the stages that are to be computed.

    Raises:
        ConfigError: files are missing or damaged, the subset is too small, a component cannot make
            its batches, or a last batch has one image and the network cannot normalise it.
    """
    if not missing:
        return None
    data = _load(run, machine)
    if run.dataset.info().images and (problems := list(_unusable(run, missing, data.train.labels))):
        raise ConfigError(*problems)
    return data


def problems_of_all(runs: Sequence[Run], machine: Machine) -> list[str]:
    """A message for each problem of any of the runs, before any work is done.

    Networks, data sets and labels that runs share are made, verified and read once. Of runs that
    differ by the seed alone, the first is checked.
    """
    shared, problems = Shared(), dict[str, None]()
    labels: dict[Any, Tensor] = {}
    for run in {replace(run, seed=0): run for run in reversed(runs)}.values():
        try:
            missing = check(run, machine, shared)
            if not missing or not run.dataset.info().images:
                continue
            key = run.dataset, run.train_fraction
            if key not in labels:
                labels[key] = _load(run, machine).train.labels
            problems |= dict.fromkeys(_unusable(run, missing, labels[key]))
        except ConfigError as error:
            problems |= dict.fromkeys(error.messages)
    return list(problems)


@dataclass
class Foresight:
    """What a plan checks of its runs' data; it never requires data and reads only small sets."""

    labels: dict[Any, Tensor | None] = field(default_factory=dict)

    def check(self, run: Run, missing: set[str], machine: Machine) -> None:
        """Check the numbers of images, and the labels where few images are used.

        Raises:
            ConfigError: as for `checked_data`, missing files excepted.
        """
        info, key = run.dataset.info(), (run.dataset, run.train_fraction)
        if not info.images or not missing:
            return
        images = training_images(info.train, run.train_fraction, run.dataset.validation)
        problems = list(_last_batches(run, missing, images))
        if images < FEW * info.classes and getattr(run.dataset, "quick", False):
            if key not in self.labels:
                self.labels[key] = _labels_if_there(run, machine)
            if (labels := self.labels[key]) is not None:
                problems = list(_unusable(run, missing, labels))
        if problems:
            raise ConfigError(*problems)


def _labels_if_there(run: Run, machine: Machine) -> Tensor | None:
    """The labels of the training images; None if the data set's files are missing.

    Raises:
        ConfigError: the subset is too small.
    """
    try:
        return _load(run, machine).train.labels
    except ConfigError as error:
        if isinstance(error.__cause__, DataError):
            return None
        raise


def _load(run: Run, machine: Machine) -> Data:
    try:
        data: Data = run.dataset.load(machine.data_dir, run.train_fraction)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return data


def _unusable(run: Run, missing: set[str], labels: Tensor) -> Iterator[str]:
    """A message for each stage that cannot use the training images with these labels (N,)."""
    yield from _last_batches(run, missing, len(labels))
    counts = torch.bincount(labels.cpu(), minlength=run.dataset.info().classes)
    accepts_one = cache(partial(_accepts_one_image, run))
    for stage in _computed(run, missing):
        for part in _parts(stage.component):
            try:
                part.check_images(counts, accepts_one)
            except ValueError as error:
                yield str(error)


def _computed(run: Run, missing: set[str]) -> Iterator[Stage]:
    return (stage for stage in run.stages if stage.name in missing)


def _parts(component: Any) -> Iterator[ReadsImages]:
    """The component and the components among its options that read training images."""
    if isinstance(component, ReadsImages):
        yield component
    if is_dataclass(component):
        for f in fields(component):
            yield from _parts(getattr(component, f.name, None))


def _last_batches(run: Run, missing: set[str], images: int) -> Iterator[str]:
    """A message for each training with a last batch of one image that cannot be normalised."""
    sizes = {
        stage.name: stage.recipe.batch_size
        for stage in _computed(run, missing)
        if stage.recipe and images % stage.recipe.batch_size == 1
    }
    if not sizes or _accepts_one_image(run):
        return
    for name, size in sizes.items():
        yield (
            f"stage {name} with batches of {size}: the last batch of {images:,} training images has"
            " one image, which BatchNorm cannot normalise where the network's maps have one pixel;"
            " batch sizes that work (train.batch_size, or the method's own):"
            f" {_suggested(size, images)}; or choose another train_fraction"
        )


def _suggested(size: int, images: int) -> str:
    """The batch sizes nearest to `size` whose last batch has two images or more, as text."""
    working = [other for other in range(2, 2 * size + 2) if images % other != 1]
    return ", ".join(map(str, sorted(sorted(working, key=lambda n: abs(n - size))[:SHOWN])))


def _accepts_one_image(run: Run) -> bool:
    """Whether the network, in training mode, accepts a batch of one image."""
    info = run.dataset.info()
    model: nn.Module = run.model(
        info.channels, info.classes, info.size, stream(run.seed, "init", "weights")
    )
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            model.train()(torch.zeros(1, info.channels, info.size, info.size))
    except ValueError:
        return False
    return True
