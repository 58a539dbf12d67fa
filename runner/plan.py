"""What runs need and what is there, before anything is run: states of runs, shared stages, epochs, work, hours, disk. Reads JSON and file names, no tensor.

torch is imported all the same: the components whose classes and defaults make a run's identity live in modules that need it.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from pruners.base import keep_count
from runner.cells import PUBLISHED, Table
from runner.costs import UNKNOWN, Cost, Net, Rates, measure_net, past_rates, readable, shipped_rates, stage_cost
from runner.errors import ConfigError
from runner.identity import stage_keys, trains
from runner.machine import Machine, check_precision, device_name
from runner.panel import plan_table
from runner.planned import PlannedRun
from runner.rounds import family
from runner.spec import Run, Stage
from runner.stages import is_cached, snapshots_wanted
from runner.store import Store, is_held

STATES = ("done", "running", "failed", "interrupted", "stopped", "new")
NAMED = 10  # failed and interrupted runs that a plan names one by one


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


def record_path(machine: Machine, identity: str) -> Path:
    """Where the run's record is, once it is done."""
    return machine.results_dir / "runs" / identity / "result.json"


def plan(run: Run, machine: Machine, keys: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """A row per stage: name, kind, key, epochs, cached. Nothing is run."""
    store, keys = Store(machine.cache_dir), keys or stage_keys(run)
    return [{"name": s.name, "kind": s.kind, "key": keys[s.name], "epochs": trains(s), "cached": is_cached(run, s, store, keys[s.name])} for s in run.stages]


def state(machine: Machine, identity: str) -> str:
    """One of STATES. A run whose status says running although no process holds its lock was interrupted."""
    path = record_path(machine, identity)
    if path.is_file():
        return "done"
    if is_held(path.with_name(".lock")):
        return "running"
    try:
        status = str(json.loads(path.with_name("status.json").read_text())["status"])
    except (OSError, ValueError, KeyError):
        return "new"
    return {"running": "interrupted", "failed": "failed", "stopped": "stopped"}.get(status, "new")


def survey(planned: list[tuple[PlannedRun, Machine]]) -> Survey:
    """What the runs need.

    Raises:
        ConfigError: a net that does not take the images, a density that keeps nothing, a precision that the device does not have.
    """
    found, nets, problems = Survey(), dict[Any, Net](), dict[str, None]()
    for job, machine in planned:
        run = job.run
        found.states[job.run_id] = state(machine, job.run_id)
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


def show(planned: list[tuple[PlannedRun, Machine]], threads: int, console: Console) -> None:
    """Print the plan of runs that share a machine's device: one run with its stages, several as sums."""
    found, machine = survey(planned), planned[0][1]
    if len(planned) == 1:
        ((job, _),) = planned
        console.print(plan_table(job.run_id, plan(job.run, machine, job.keys), found.states[job.run_id] == "done"))
    for line in lines(found, machine, threads):
        console.print(line, soft_wrap=True)


def show_tables(tables: list[Table], machine: Machine, threads: int, console: Console) -> None:
    """Print the plan of tables, and which of their rows have no method yet."""
    jobs = {job.run_id: job for table in tables for job in table.jobs}
    for line in lines(survey([(job, machine) for job in jobs.values()]), machine, threads):
        console.print(line, soft_wrap=True)
    for line in without_runs(tables):
        console.print(line, soft_wrap=True)
    for missing in sorted({cell.missing for table in tables for cell in table.cells.values() if cell.missing}):
        console.print(f"missing: {missing}")


def without_runs(tables: list[Table]) -> Iterator[str]:
    """Which tables need none."""
    for table in tables:
        if all(cell.value is not None for cell in table.cells.values()):
            yield f"{table.name} needs no runs: its entries are read from the configuration (make tables TABLE={table.name})"


def lines(found: Survey, machine: Machine, threads: int) -> Iterator[str]:
    """The plan as text."""
    count = Counter(found.states.values())
    rest = len(found.states) - count["done"] - count["running"]
    parts = ", ".join(f"{name} {count[name]}" for name in STATES[2:] if count[name] and rest != count[name])
    only = next((f", all {name}" for name in STATES[2:5] if rest and rest == count[name]), "")
    yield f"runs: {len(found.states)}; done {count['done']}, running {count['running']}, to do {rest}" + (f" ({parts})" if parts else only)
    for name in STATES[1:5]:
        yield from _named(name, [identity for identity, s in found.states.items() if s == name], machine)
    shared = sum(n > 1 for n in found.uses.values())
    yield f"stages: {found.uses.total()} in all runs, {len(found.uses)} different, {shared} shared by several runs"
    yield found.line
    costs = [(item, item.cost) for item in found.needed.values()]
    yield from _work(costs)
    yield _time(costs, machine, threads)
    yield f"disk: {readable(sum(cost.bytes for _, cost in costs))} more in {machine.cache_dir}"


def _named(name: str, identities: list[str], machine: Machine) -> Iterator[str]:
    what = {"failed": "traceback.txt"}.get(name, "status.json")
    for identity in identities[:NAMED]:
        yield f"  {name}: {record_path(machine, identity).with_name(what)}"
    if len(identities) > NAMED:
        yield f"  {name}: and {len(identities) - NAMED} more"


def _work(costs: list[tuple[Needed, Cost]]) -> Iterator[str]:
    """Images and multiply-accumulates, and what is in neither."""
    training = [cost for item, cost in costs if item.stage.recipe]
    measuring = [cost for item, cost in costs if not item.stage.recipe and cost.passes is not None]
    products = sum(cost.products for cost in measuring)
    yield f"images: {sum(c.images for c in training):,} to train on, {sum(c.images for c in measuring):,} to measure on" + (
        f" ({products:,} Hessian-vector products)" if products else ""
    )
    blind = sorted({f"{item.run.method}'s {family(item.stage.name)}" for item, cost in costs if cost.passes is None})
    yield (
        f"multiply-accumulates: {sum(c.macs for c in training):.4g} to train (epochs x images x 3 forward passes), {sum(c.macs for c in measuring):.4g} to "
        f"measure; not counted: {', '.join(['evaluation', *blind])}"
    )


def _time(costs: list[tuple[Needed, Cost]], machine: Machine, threads: int) -> str:
    """Hours of the needed stages one after another."""
    if not costs:
        return "time: nothing to compute"
    own = past_rates(_records(machine.results_dir), device_name(machine.device), threads, machine.cache_dir)
    if (seconds := _seconds(costs, own)) is not None:
        return f"time: {_hours(seconds)} one after another ({own.origin})"
    other = shipped_rates(list(_records(PUBLISHED)))
    if (seconds := _seconds(costs, other)) is not None:
        return f"time: {_hours(seconds)} one after another ({other.origin}, which we ship; make bench measures this machine)"
    return f"time: {UNKNOWN}"


def _seconds(costs: list[tuple[Any, Cost]], rates: Rates) -> float | None:
    """What all would take; None when a part that can be told is not known."""
    seconds = [rates.seconds(item.run, item.stage, item.net, cost) for item, cost in costs]
    if any(s is None and cost.passes is not None for s, (_, cost) in zip(seconds, costs, strict=True)):
        return None
    return sum(s or 0.0 for s in seconds)


def _records(results_dir: Path) -> Iterator[dict[str, Any]]:
    for path in results_dir.glob("runs/*/result.json"):
        yield json.loads(path.read_text())


def _hours(seconds: float) -> str:
    if seconds >= 3.6e6:
        return f"about {seconds / 3600:,.0f} hours"
    return f"about {seconds / 3600:.3g} hours" if seconds >= 360 else f"about {seconds:.2g} seconds, {seconds / 3600:.2g} hours"
