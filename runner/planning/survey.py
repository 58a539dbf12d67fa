"""What runs need and what is there, before anything is run: states of runs, shared stages, epochs, work, hours, disk. Reads JSON and file names, no tensor.

torch is imported all the same: the components whose classes and defaults make a run's identity live in modules that need it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pruners.base import keep_count
from runner.engine.machine import Machine, check_precision
from runner.engine.stages import plan
from runner.errors import ConfigError
from runner.planning.costs import Cost, Net, measure_net, stage_cost
from runner.records.find import state
from runner.spec.planned import PlannedRun
from runner.spec.run import Run, Stage, snapshots_wanted, trains


@dataclass
class Needed:
    """A stage that is to be computed: for its first run, with the rewinding points that all runs want of it."""

    run: Run
    stage: Stage
    net: Net
    snapshots: frozenset[float]

    @property
    def cost(self) -> Cost:
        """What it takes."""
        return stage_cost(self.run, self.stage, self.net, len(self.snapshots))


@dataclass
class Survey:
    """What a set of runs needs: each run once, each stage once."""

    states: dict[str, str] = field(default_factory=dict)  # run id -> one of STATES
    uses: Counter[str] = field(default_factory=Counter)  # stage key -> runs that have it
    needed: dict[str, Needed] = field(default_factory=dict)  # stage key -> what no run has done
    asked: int = 0  # epochs, as if every run stood alone

    @property
    def line(self) -> str:
        """The line that design.md, section 6 promises."""
        return f"epochs: asked {self.asked}, needed {sum(trains(item.stage) for item in self.needed.values())}"


def survey(planned: list[tuple[PlannedRun, Machine]]) -> Survey:
    """What the runs need.

    Raises:
        ConfigError: a net that does not take the images, a density that keeps nothing, a precision that the device does not have.
    """
    found, nets, problems = Survey(), dict[Any, Net](), dict[str, None]()
    for job, machine in planned:
        run = job.run
        found.states[job.run_id] = state(machine.results_dir, job.run_id)
        done, wanted = found.states[job.run_id] == "done", snapshots_wanted(run)
        try:
            net = _checked(run, machine, nets)
        except ConfigError as error:
            problems |= dict.fromkeys(error.messages)
            continue
        for stage, step in zip(run.stages, plan(run, machine, job.keys), strict=True):
            found.uses[step["key"]] += 1
            found.asked += step["epochs"]
            if not done and not step["cached"]:
                item = found.needed.setdefault(step["key"], Needed(run, stage, net, frozenset()))
                item.snapshots |= wanted.get(stage.name, frozenset())
    if problems:
        raise ConfigError(*problems)
    return found


def _checked(run: Run, machine: Machine, nets: dict[Any, Net]) -> Net:
    """The sizes of the run's net, once for all runs that have it; complains about what no run could start with, missing data excepted."""
    for stage in run.stages:
        if stage.recipe:
            check_precision(stage.recipe.precision, machine.device)
    place = run.model, run.dataset
    if place not in nets:
        nets[place] = measure_net(run.dataset, run.model)
    if run.density is not None:
        try:
            keep_count(run.density, nets[place].prunable)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return nets[place]
