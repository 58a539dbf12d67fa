"""The data of a run, loaded and checked before any work is done."""

import torch
from torch import nn

from runner.data.base import Data
from runner.engine.machine import Machine
from runner.errors import ConfigError
from runner.spec.rng import stream
from runner.spec.run import Run

SHOWN = 3  # batch sizes that a message suggests


def checked_data(run: Run, machine: Machine, missing: set[str]) -> Data | None:
    """The data of a run, on the CPU; None if no stage is to be computed.

    Args:
        missing: names of the stages that are to be computed.

    Raises:
        ConfigError: files are missing or damaged, the subset is too small, or the last batch of a
            training has one image and the network cannot train on it.
    """
    if not missing:
        return None
    try:
        data: Data = run.dataset.load(machine.data_dir, run.train_fraction)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if run.dataset.info().images:
        _check_last_batches(run, missing, len(data.train))
    return data


def _check_last_batches(run: Run, missing: set[str], images: int) -> None:
    """Raise `ConfigError` if a stage would train on one image that the network cannot normalise."""
    sizes = {
        stage.name: stage.recipe.batch_size
        for stage in run.stages
        if stage.recipe and stage.name in missing
    }
    problems = [
        f"stage {name} with batches of {size}: the last batch of {images:,} training images has one"
        " image, which BatchNorm cannot normalise where the network's maps have one pixel; batch"
        f" sizes that work (train.batch_size, or the method's own): {_suggested(size, images)};"
        " or choose another train_fraction"
        for name, size in sizes.items()
        if images % size == 1
    ]
    if problems and not _trains_on_one_image(run):
        raise ConfigError(*problems)


def _suggested(size: int, images: int) -> str:
    """The batch sizes nearest to `size` whose last batch has two images or more, as text."""
    working = [other for other in range(2, 2 * size + 2) if images % other != 1]
    return ", ".join(map(str, sorted(sorted(working, key=lambda n: abs(n - size))[:SHOWN])))


def _trains_on_one_image(run: Run) -> bool:
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
