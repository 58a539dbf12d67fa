"""Survey of runs before they start: their states, shared stages, and the stages to compute.

Only JSON and file names are read, no tensors. torch is imported only for runs that are not done.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.engine.machine import Machine, Place
from runner.planning.costs import Cost, Net, stage_cost
from runner.records.find import FINISHED, state
from runner.records.wanted import Wanted
from runner.spec.planned import PlannedRun
from runner.spec.run import Run, Stage, trains

Site = Machine | Place  # where runs are planned


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


def survey(planned: Sequence[tuple[PlannedRun, Site]]) -> Survey:
    """Determine the states of the runs and the stages to compute.

    Raises:
        ConfigError: a net does not accept the images, a density keeps no weight, or the device does
            not support a precision.
    """
    found = Survey()
    for job, site in planned:
        wanted = Wanted(site.save_predictions, job.required)
        found.states[job.run_id] = state(site.results_dir, job.run_id, wanted)
        found.uses.update(job.keys.values())
        found.requested += sum(job.outline.epochs)
    rest = [(job, site) for job, site in planned if found.states[job.run_id] not in FINISHED]
    if rest:
        from runner.planning.unfinished import needed  # imports torch

        found.needed = needed([(job, site.machine) for job, site in rest])
    return found
