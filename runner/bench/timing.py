"""Timing of two ways to do the same work, in alternation: the benchmark's ratios."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Comparison:
    """Our work and the baseline that it is timed against.

    Args:
        work: description of our work.
        baseline: description of the baseline: a rival, or a limit.
        run, run_baseline: do the work once.
    """

    work: str
    baseline: str
    run: Callable[[], object]
    run_baseline: Callable[[], object]


def measure_ratios(comparison: Comparison, rounds: int) -> list[float]:
    """Return the baseline's seconds / ours for each round; larger is better.

    The order alternates between rounds; a first warm-up round is not counted.
    """
    ratios = []
    for i in range(rounds + 1):
        order = (comparison.run, comparison.run_baseline)
        took = {work: seconds(work) for work in (order if i % 2 else reversed(order))}
        ratios.append(took[comparison.run_baseline] / took[comparison.run])
    return ratios[1:]


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes, including its work on a GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
