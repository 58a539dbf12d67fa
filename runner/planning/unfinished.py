"""What runs that are not done still need: their checks before any work, and the missing stages."""

from typing import Any

from pruners.base import keep_count
from runner.engine.data_checks import Foresight
from runner.engine.machine import Machine, check_precision
from runner.engine.stages import plan
from runner.errors import ConfigError
from runner.planning.costs import Net, measure_net
from runner.planning.survey import Needed
from runner.spec.planned import PlannedRun
from runner.spec.run import Run, snapshots_wanted


def needed(planned: list[tuple[PlannedRun, Machine]]) -> dict[str, Needed]:
    """Stage key -> a stage that has to be computed, for runs that are not done.

    Raises:
        ConfigError: as `runner.planning.survey.survey`.
    """
    found, nets, problems = dict[str, Needed](), dict[Any, Net](), dict[str, None]()
    foresight = Foresight()
    for job, machine in planned:
        run, wanted = job.run, snapshots_wanted(job.run)
        try:
            net = _checked(run, machine, nets)
            steps = plan(run, machine, job.keys)
            missing = {step["name"] for step in steps if not step["cached"]}
            foresight.check(run, missing, machine)
        except ConfigError as error:
            problems |= dict.fromkeys(error.messages)
            continue
        for stage, step in zip(run.stages, steps, strict=True):
            if step["name"] in missing:
                item = found.setdefault(step["key"], Needed(run, stage, net, frozenset()))
                item.snapshots |= wanted.get(stage.name, frozenset())
    if problems:
        raise ConfigError(*problems)
    return found


def _checked(run: Run, machine: Machine, nets: dict[Any, Net]) -> Net:
    """The sizes of the run's net, computed once per net and data set.

    Raises:
        ConfigError: the run could not start, for a reason other than missing data.
    """
    for stage in run.stages:
        if stage.recipe:
            check_precision(stage.recipe.precision, machine.device)
    key = run.model, run.dataset
    if key not in nets:
        nets[key] = measure_net(run.dataset, run.model)
    if run.masked_density is not None:
        try:
            keep_count(run.masked_density, nets[key].prunable)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return nets[key]
