"""Checks of a run before any work is done."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pruners.base import Budgeted, Layered, count_prunable, full_masks, keep_count
from runner.data.counts import training_images
from runner.engine.distributed import check_shareable
from runner.engine.given_masks import fitting_masks
from runner.engine.machine import Machine, check_precision
from runner.engine.pretrained import fitting
from runner.engine.stages import plan
from runner.errors import ConfigError
from runner.records.folders import RunFolders
from runner.records.wanted import Wanted
from runner.spec.identity import run_id
from runner.spec.rng import stream
from runner.spec.run import Run


@dataclass
class Shared:
    """What the checks of several runs share."""

    networks: dict[Any, nn.Module] = field(default_factory=dict)  # by data set and model
    data_sets: set[Any] = field(default_factory=set)  # whose files are intact


def check(run: Run, machine: Machine, shared: Shared | None = None) -> set[str]:
    """Check a run before any work is done; return the names of the stages to compute.

    Checks the precision, the network for these images and processes, the density for this network,
    and, where stages are not cached, the data set's files and weights from elsewhere. It reads no
    images (runner/engine/data_checks.py).

    Args:
        shared: what the runs checked before have made and verified.

    Raises:
        ConfigError: with one message for each problem.
    """
    shared = shared or Shared()
    problems = [*_precision_problems(run, machine), *_image_problems(run)]
    model: nn.Module | None = None
    try:
        key = run.dataset, run.model
        model = shared.networks.get(key) or shared.networks.setdefault(key, _network(run))
        _check_network(model, run, machine)
    except ValueError as error:
        problems += str(error).splitlines()
    missing = _missing_stages(run, machine)
    if missing and run.dataset not in shared.data_sets:
        try:
            run.dataset.check(machine.data_dir)
            shared.data_sets.add(run.dataset)
        except ValueError as error:
            problems.append(str(error))
    if model is not None:
        problems += _file_problems(run, model, missing)
    if problems:
        raise ConfigError(*problems)
    return missing


def _file_problems(run: Run, model: nn.Module, missing: set[str]) -> Iterator[str]:
    """A message for each file of weights or masks that a stage to compute cannot use."""
    for stage in run.stages:
        try:
            if stage.weights and stage.name in missing:
                fitting(stage.weights, model.state_dict(), run)
            if stage.mask_file and stage.name in missing:
                fitting_masks(stage.mask_file, model, run)
        except ConfigError as error:
            yield from error.messages


def _precision_problems(run: Run, machine: Machine) -> Iterator[str]:
    for precision in {stage.recipe.precision for stage in run.stages if stage.recipe}:
        try:
            check_precision(precision, machine.device)
        except ConfigError as error:
            yield from error.messages


def _image_problems(run: Run) -> Iterator[str]:
    """A message if a share of the training images has fewer images than classes."""
    info = run.dataset.info()
    if not info.images:
        return
    used = training_images(info.train, run.train_fraction, 0.0)
    left = training_images(info.train, run.train_fraction, run.dataset.validation)
    if used < info.classes:
        least = min(math.ceil(info.classes / info.train * 10_000) / 10_000, 1.0)
        yield (
            f"train_fraction={run.train_fraction:g} keeps {used:,} of {info.train:,} training"
            f" images, fewer than the {info.classes:,} classes: take train_fraction={least:g} or"
            " more"
        )
    elif run.dataset.validation and min(used - left, left) < info.classes:
        yield (
            f"dataset.validation={run.dataset.validation:g} splits {used:,} training images into"
            f" {left:,} and {used - left:,} held out, but there are {info.classes:,} classes:"
            " choose a value nearer to 0.5, a larger train_fraction, or dataset.validation=0"
        )


def _network(run: Run) -> nn.Module:
    info, rng = run.dataset.info(), stream(run.seed, "init", "weights")
    model: nn.Module = run.model(info.channels, info.classes, info.size, rng)
    return model


def _check_network(model: nn.Module, run: Run, machine: Machine) -> None:
    """Check that several processes can train the network and that the density keeps a weight.

    Raises:
        ValueError: they cannot, or it does not.
    """
    check_shareable(model, machine.group)
    if run.masked_density is not None:
        keep_count(run.masked_density, count_prunable(full_masks(model)))
    for stage in run.stages:
        if stage.density is not None and isinstance(stage.component, Budgeted):
            stage.component.check_budget(model, full_masks(model), stage.density)
        if isinstance(stage.component, Layered):
            stage.component.check_layers(model, full_masks(model))


def _missing_stages(run: Run, machine: Machine) -> set[str]:
    """The names of the stages to compute; none if the run is done."""
    wanted = Wanted.of(run, machine.save_predictions)
    if wanted.complete(RunFolders(machine.results_dir).run(run_id(run))):
        return set()
    return {step["name"] for step in plan(run, machine) if not step["cached"]}
