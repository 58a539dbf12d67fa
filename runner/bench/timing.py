"""Timing of two ways to do the same work, in alternation: the benchmark's ratios."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Duel:
    """Two ways to do the same work.

    The ratio is the rival's time over ours, so larger is better.
    """

    work: str
    rival_is: str
    ours: Callable[[], object]
    rival: Callable[[], object]


def run_duel(duel: Duel, rounds: int) -> list[float]:
    """Return the rival's seconds / ours for each round.

    The order alternates between rounds; a first warm-up round is not counted.
    """
    ratios = []
    for i in range(rounds + 1):
        order = (duel.ours, duel.rival) if i % 2 else (duel.rival, duel.ours)
        took = {work: seconds(work) for work in order}
        ratios.append(took[duel.rival] / took[duel.ours])
    return ratios[1:]


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes, including its work on a GPU."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun
