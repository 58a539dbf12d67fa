"""Plans as text."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from runner.display.sizes import readable
from runner.engine.machine import Machine
from runner.engine.memory import described
from runner.engine.stage_meta import PlannedStage
from runner.planning.costs import Cost
from runner.planning.hours import Team, time_line
from runner.planning.survey import Needed, Site, Survey, survey
from runner.records.find import FINISHED, STATES, UNFINISHED
from runner.records.folders import RECORD, record_path
from runner.spec.findings import DIVERGED
from runner.spec.planned import PlannedRun
from runner.spec.run import family

LISTED = 10  # maximum number of runs that a plan lists per state


def show(planned: list[tuple[PlannedRun, Machine]], threads: int, console: Console) -> None:
    """Print the plan of runs on the same device: a single run with its stages, several as sums."""
    from runner.engine.stages import plan  # imports torch

    found, machine = survey(planned), planned[0][1]
    if len(planned) == 1:
        ((job, _),) = planned
        state = found.states[job.run_id]
        title = state if state in FINISHED else "to do"
        console.print(plan_table(job.run_id, plan(job.run, machine, job.keys), title))
    for line in lines(found, machine, Team(threads)):
        console.print(line, soft_wrap=True)


def lines(found: Survey, site: Site, team: Team) -> Iterator[str]:
    """The lines of a plan."""
    count = Counter(found.states.values())
    rest = sum(count[name] for name in UNFINISHED)
    parts = ", ".join(
        f"{name} {count[name]}" for name in UNFINISHED if count[name] and rest != count[name]
    )
    only = next((f", all {name}" for name in UNFINISHED[:-1] if rest and rest == count[name]), "")
    diverged = f", {DIVERGED} {count[DIVERGED]}" if count[DIVERGED] else ""
    yield (
        f"runs: {len(found.states)}; done {count['done']}{diverged},"
        f" running {count['running']}, to do {rest}" + (f" ({parts})" if parts else only)
    )
    for name in STATES[1:-1]:  # not those that are done or new
        identities = [identity for identity, state in found.states.items() if state == name]
        yield from _listed(name, identities, site)
    shared = sum(n > 1 for n in found.uses.values())
    yield (
        f"stages: {found.uses.total()} in all runs, {len(found.uses)} different, {shared} shared by"
        " several runs"
    )
    yield found.line
    costs = [(item, item.cost) for item in found.needed.values()]
    yield from _work(costs)
    if costs:
        yield time_line(costs, site.machine, team)
        yield described(site.machine)
    else:
        yield "time: nothing to compute"
    yield f"disk: {readable(sum(cost.bytes for _, cost in costs))} more in {site.cache_dir}"


def _listed(name: str, identities: list[str], site: Site) -> Iterator[str]:
    what = {"failed": "traceback.txt", DIVERGED: RECORD}.get(name, "status.json")
    for identity in identities[:LISTED]:
        yield f"  {name}: {record_path(site.results_dir, identity).with_name(what)}"
    if len(identities) > LISTED:
        yield f"  {name}: and {len(identities) - LISTED} more"


def _work(costs: list[tuple[Needed, Cost]]) -> Iterator[str]:
    """Lines with images, multiply-accumulates and the stages that are not counted."""
    training = [cost for item, cost in costs if item.stage.recipe]
    measuring = [cost for item, cost in costs if not item.stage.recipe and cost.passes is not None]
    products = sum(cost.products for cost in measuring)
    yield (
        f"images: {sum(c.images for c in training):,} to train on,"
        f" {sum(c.images for c in measuring):,} to measure on"
        + (f" ({products:,} Hessian-vector products)" if products else "")
    )
    unknown = [item for item, cost in costs if cost.passes is None]
    names = sorted({f"{item.run.method}'s {family(item.stage.name)}" for item in unknown})
    yield (
        f"multiply-accumulates: {sum(c.macs for c in training):.4g} to train (epochs x images x 3"
        f" forward passes), {sum(c.macs for c in measuring):.4g} to measure; not counted:"
        f" {', '.join(['evaluation', *names])}"
    )


def plan_table(identity: str, steps: Sequence[PlannedStage], state: str) -> Table:
    """A table of a run's stages and whether each is cached or to be computed."""
    table = Table(title=f"{identity}: {state}", title_justify="left")
    for column in ("stage", "kind", "epochs", "key", "state"):
        table.add_column(column)
    for step in steps:
        cached = "cached" if step["cached"] else "to compute"
        table.add_row(step["name"], step["kind"], str(step["epochs"]), step["key"][:12], cached)
    return table
