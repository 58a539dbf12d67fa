"""Two ways to do the same work, timed turn by turn: the benchmark's ratios."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Duel:
    """Two ways to do the same work; the ratio is the rival's time over ours, so that more is better."""

    work: str
    rival_is: str
    ours: Callable[[], object]
    rival: Callable[[], object]


def run_duel(duel: Duel, rounds: int) -> list[float]:
    """Rival's seconds / ours for each round; who begins alternates, one round before goes uncounted."""
    ratios = []
    for i in range(rounds + 1):
        order = (duel.ours, duel.rival) if i % 2 else (duel.rival, duel.ours)
        took = {work: seconds(work) for work in order}
        ratios.append(took[duel.rival] / took[duel.ours])
    return ratios[1:]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, on a GPU too."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun
