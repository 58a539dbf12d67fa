"""Survey of runs before they start: their states, shared stages, and the stages to compute.

Only JSON and file names are read, no tensors. torch is still imported, because a run's identity
depends on classes and defaults of components in modules that import it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pruners.base import keep_count
from runner.engine.data_checks import Foresight
from runner.engine.machine import Machine, check_precision
from runner.engine.stages import plan
from runner.errors import ConfigError
from runner.planning.costs import Cost, Net, measure_net, stage_cost
from runner.records.find import FINISHED, state
from runner.spec.planned import PlannedRun
from runner.spec.run import Run, Stage, snapshots_wanted, trains


@dataclass
class Needed:
    """A stage to compute, of its first run, with the rewinding points that all runs need."""

    run: Run
    stage: Stage
    net: Net
    snapshots: frozenset[float]

    @property
    def cost(self) -> Cost:
        """The cost of the stage."""
        return stage_cost(self.run, self.stage, self.net, len(self.snapshots))


@dataclass
class Survey:
    """The needs of a set of runs, with each run and each stage counted once."""

    states: dict[str, str] = field(default_factory=dict)  # run id -> one of STATES
    uses: Counter[str] = field(default_factory=Counter)  # stage key -> number of runs with it
    needed: dict[str, Needed] = field(default_factory=dict)  # stage key -> missing stage
    requested: int = 0  # epochs of all runs, without sharing or cache

    @property
    def line(self) -> str:
        """The line with requested and needed epochs (docs/tables.md)."""
        needed = sum(trains(item.stage) for item in self.needed.values())
        return f"epochs: asked {self.requested}, needed {needed}"


def survey(planned: list[tuple[PlannedRun, Machine]]) -> Survey:
    """Determine the states of the runs and the stages to compute.

    Raises:
        ConfigError: a net does not accept the images, a density keeps no weight, or the device does
            not support a precision.
    """
    found, nets, problems = Survey(), dict[Any, Net](), dict[str, None]()
    foresight = Foresight()
    for job, machine in planned:
        run = job.run
        found.states[job.run_id] = state(machine.results_dir, job.run_id, machine.save_predictions)
        done, wanted = found.states[job.run_id] in FINISHED, snapshots_wanted(run)
        try:
            net = _checked(run, machine, nets)
        except ConfigError as error:
            problems |= dict.fromkeys(error.messages)
            continue
        steps = plan(run, machine, job.keys)
        missing = set() if done else {step["name"] for step in steps if not step["cached"]}
        try:
            foresight.check(run, missing, machine)
        except ConfigError as error:
            problems |= dict.fromkeys(error.messages)
        for stage, step in zip(run.stages, steps, strict=True):
            found.uses[step["key"]] += 1
            found.requested += step["epochs"]
            if step["name"] in missing:
                item = found.needed.setdefault(step["key"], Needed(run, stage, net, frozenset()))
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
    if run.density is not None:
        try:
            keep_count(run.density, nets[key].prunable)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return nets[key]
