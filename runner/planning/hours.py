"""The line of a plan with the time that its stages take, for the team that trains them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runner.engine.machine import Machine
from runner.paths import PUBLISHED, typed
from runner.planning.cards import FLOP, UTILISATION, Card
from runner.planning.costs import UNKNOWN, Cost, Rates, past_rates, shipped_rates
from runner.planning.survey import Needed
from runner.records.find import all_records
from runner.spec.record import Record

Costs = list[tuple[Needed, Cost]]


def _one(model: str) -> int:
    return 1


@dataclass(frozen=True)
class Team:
    """Who computes the stages of a plan.

    Args:
        threads: of each process.
        processes: model -> processes of a job.
        card: the kind of device; None = that of this machine.
    """

    threads: int
    processes: Callable[[str], int] = _one
    card: Card | None = None

    def sizes(self, costs: Costs) -> list[int]:
        """The sizes of the jobs' teams, each once."""
        return sorted({self.processes(item.run.model.name) for item, _ in costs})


class Source(Protocol):
    """What an estimate is made from."""

    def seconds(self, item: Needed, cost: Cost, processes: int) -> float | None:
        """Estimated seconds of a stage; None if it cannot be estimated."""
        ...

    def origin(self, sizes: list[int]) -> str:
        """What the estimate is made from, for jobs of teams of these sizes."""
        ...


@dataclass
class Recorded:
    """Finished runs of one kind of device, or its benchmark.

    Args:
        rates: team size -> the rates of runs by such teams, and of single processes by 1.
        more: appended to the origin.
    """

    rates: dict[int, Rates]
    more: str = ""
    divided: set[int] = field(default_factory=set)  # team sizes without records of their own

    def seconds(self, item: Needed, cost: Cost, processes: int) -> float | None:
        """From runs by teams of that size, or from those of one process, whose work is divided."""
        if processes > 1:
            own = self.rates[processes].seconds(item.run, item.stage, item.net, cost)
            if own is not None:
                return own
        alone = self.rates[1].seconds(item.run, item.stage, item.net, cost)
        if alone is None or processes == 1 or not item.stage.recipe:
            return alone
        self.divided.add(processes)
        return alone / processes

    def origin(self, sizes: list[int]) -> str:
        """The records, and what is assumed about teams."""
        used = [self.rates[size] for size in sizes if self.rates[size].records] or [self.rates[1]]
        text = "; ".join(dict.fromkeys(rates.origin for rates in used))
        return "; ".join([f"{text}{self.more}", *_divided(sorted(self.divided))])


@dataclass
class Stated:
    """A card's rate; nothing was measured."""

    card: Card

    def seconds(self, item: Needed, cost: Cost, processes: int) -> float | None:
        """By the card's rate; None if the cost is unknown."""
        if cost.passes is None:
            return None
        return self.card.seconds(item.run.precision, cost.macs) / (
            processes if item.stage.recipe else 1
        )

    def origin(self, sizes: list[int]) -> str:
        """The formula with its numbers and assumptions."""
        card = self.card
        several = " x processes" if sizes != [1] else ""
        assumed = ", an assumption" if card.utilisation == UTILISATION else ""
        parts = [
            f"estimate without a record: {FLOP} x multiply-accumulates / (TFLOP/s x"
            f" utilisation{several})",
            f"{card.name} computes {card.rates} TFLOP/s at most",
            f"utilisation={card.utilisation:g}{assumed}",
        ]
        return "; ".join([*parts, *_divided([size for size in sizes if size > 1])])


def _divided(sizes: list[int]) -> list[str]:
    """What is assumed for teams whose speed is not known."""
    if not sizes:
        return []
    return [f"assumes that {_listed(sizes)} processes train as many times as fast as one"]


def time_line(costs: Costs, machine: Machine, team: Team) -> str:
    """A line with the estimated time of the needed stages, one after another."""
    sizes = team.sizes(costs)
    jobs = f", in jobs of {_listed(sizes)} processes" if sizes != [1] else ""
    for source in _sources(machine, team, sizes):
        if (seconds := _total(costs, source, team)) is not None:
            return f"time: {hours(seconds)} one after another{jobs} ({source.origin(sizes)})"
    return f"time: {UNKNOWN}"


def _listed(sizes: list[int]) -> str:
    return " or ".join(map(str, sizes))


def _sources(machine: Machine, team: Team, sizes: list[int]) -> Iterable[Source]:
    """What the time can be estimated from, the best first."""
    from runner.records.provenance import device_name  # imports torch

    records = list(all_records(machine.results_dir))
    if team.card is None:
        device = device_name(machine.device)
        yield _recorded(records, device, team.threads, sizes, machine)
        published = list(all_records(PUBLISHED))
        other = shipped_rates(published)
        found = _recorded(published, other.device_name, other.threads, sizes)
        found.more = (
            f", published with this repository; run {typed('bench')} to measure this machine, or"
            " state a card: card=h200"
        )
        yield found
        return
    if marker := team.card.marker:
        every = [*records, *all_records(PUBLISHED)]
        own = [record for record in every if marker in record["provenance"]["device_name"]]
        rates = shipped_rates(own)
        yield _recorded(own, rates.device_name, rates.threads, sizes)
    yield Stated(team.card)


def _recorded(
    records: Sequence[Record],
    device: str,
    threads: int,
    sizes: list[int],
    machine: Machine | None = None,
) -> Recorded:
    cache = machine.cache_dir if machine else None
    return Recorded(
        {
            size: past_rates(records, device, threads, cache if size == 1 else None, size)
            for size in {1, *sizes}
        }
    )


def _total(costs: Costs, source: Source, team: Team) -> float | None:
    """Estimated seconds in total; None if a stage of known cost has no estimate."""
    total = 0.0
    for item, cost in costs:
        seconds = source.seconds(item, cost, team.processes(item.run.model.name))
        if seconds is None and cost.passes is not None:
            return None
        total += seconds or 0.0
    return total


def hours(seconds: float) -> str:
    """A time as text: hours, and seconds if it is short."""
    if seconds >= 3.6e6:
        return f"about {seconds / 3600:,.0f} hours"
    if seconds >= 360:
        return f"about {seconds / 3600:.3g} hours"
    rounded = float(f"{seconds:.2g}")  # prints as 120, not as 1.2e+02
    return f"about {rounded:g} seconds, {seconds / 3600:.2g} hours"
