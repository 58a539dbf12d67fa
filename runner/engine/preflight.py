"""Checks of a run before any work is done."""

from pruners.base import count_prunable, full_masks, keep_count
from runner.engine.distributed import check_shareable
from runner.engine.machine import Machine, check_precision
from runner.engine.pretrained import fitting
from runner.engine.stages import plan
from runner.errors import ConfigError
from runner.records.folders import record_path
from runner.spec.identity import run_id
from runner.spec.rng import stream
from runner.spec.run import Run


def check(run: Run, machine: Machine) -> None:
    """Check a run before any work is done.

    Checks the precision, the network for these images and processes, the density for this network,
    and, where stages are not cached, the data set and weights from elsewhere.

    Raises:
        ConfigError: with one message for each problem.
    """
    problems: list[str] = []
    for precision in {stage.recipe.precision for stage in run.stages if stage.recipe}:
        try:
            check_precision(precision, machine.device)
        except ConfigError as error:
            problems += error.messages
    info, model = run.dataset.info(), None
    try:
        model = run.model(
            info.channels, info.classes, info.size, stream(run.seed, "init", "weights")
        )
        check_shareable(model, machine.team)
        if run.density is not None:
            keep_count(run.density, count_prunable(full_masks(model)))
    except ValueError as error:
        problems += str(error).splitlines()
    missing = (
        set()
        if record_path(machine.results_dir, run_id(run)).is_file()
        else {step["name"] for step in plan(run, machine) if not step["cached"]}
    )
    if missing:
        try:
            run.dataset.check(machine.data_dir)
        except ValueError as error:
            problems.append(str(error))
    for stage in run.stages:
        if stage.weights and stage.name in missing and model is not None:
            try:
                fitting(stage.weights, model.state_dict(), run)
            except ConfigError as error:
                problems += error.messages
    if problems:
        raise ConfigError(*problems)
