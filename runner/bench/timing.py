"""Timing of two ways to do the same work, in alternation: the benchmark's ratios."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from runner.bench.figures import Figure

LONGEST = 6.0  # seconds after which a comparison starts no further round


@dataclass(frozen=True)
class Comparison:
    """Our work and the baseline that it is timed against.

    Args:
        name: name of the figure.
        work: description of our work.
        baseline: description of the baseline: a rival, or a limit.
        run, run_baseline: do the work once.
        cost: the ratio is our time / the baseline's; False = the baseline's / ours, the speed.
    """

    name: str
    work: str
    baseline: str
    run: Callable[[], object]
    run_baseline: Callable[[], object]
    cost: bool = False


@dataclass(frozen=True)
class Compared(Figure):
    """The figure of a comparison: medians over its rounds.

    Args:
        work: description of our work.
        ratios: the ratio of each round.
    """

    work: str = ""
    ratios: tuple[float, ...] = ()


def compare(comparison: Comparison, rounds: int) -> Compared:
    """Return the medians of the seconds of both, and of the ratios of all rounds."""
    took = measure_rounds(comparison, rounds)
    ours, baseline = (statistics.median(each) for each in zip(*took, strict=True))
    ratios = tuple(a / b if comparison.cost else b / a for a, b in took)
    return Compared(
        comparison.name,
        ours,
        "s",
        comparison.baseline,
        baseline,
        statistics.median(ratios),
        comparison.work,
        ratios,
    )


def measure_rounds(
    comparison: Comparison, rounds: int, longest: float = LONGEST
) -> list[tuple[float, float]]:
    """Return our seconds and the baseline's for each of at most `rounds` rounds.

    The order alternates between rounds; a first warm-up round is not counted. After `longest`
    seconds no round begins, but one is always measured.
    """
    found: list[tuple[float, float]] = []
    start = time.perf_counter()
    for i in range(rounds + 1):
        if i == 1:  # the warm-up can start processes
            start = time.perf_counter()
        if len(found) > 1 and time.perf_counter() - start > longest:
            break
        order = (comparison.run, comparison.run_baseline)
        took = {work: seconds(work) for work in (order if i % 2 else reversed(order))}
        found.append((took[comparison.run], took[comparison.run_baseline]))
    return found[1:]


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes, including its work on a GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
