"""Ranks of the entries side by side: for each entry, the ranks that its seeds do not exclude.

Every two entries are compared by a two-sided paired t-test over the seeds that both have; the
p-values of all pairs are adjusted by Holm's method. An entry has rank 1 + b at best and n - w at
worst, where b of the n entries are found better and w worse. All ranges of a group contain the
true ranks with a probability of at least 95 %, because no comparison is in error with at least that
probability (differences of a seed are taken as normal).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from runner.stats.estimates import BySeed
from runner.stats.evidence import LEVEL, holm
from runner.suites.expand import Suite
from runner.suites.page import Key
from runner.tables.best import BEST, At, by_metric
from runner.tables.entries import Entry
from runner.tables.text import MISSING

K = TypeVar("K")


@dataclass(frozen=True)
class Ranks:
    """The ranks, from `best` to `worst`, that are not excluded for an entry."""

    best: int
    worst: int

    def __str__(self) -> str:
        ends = dict.fromkeys((self.best, self.worst))
        return MISSING.join(map(str, ends))


def rank_ranges(suite: Suite, found: Mapping[Key, Entry]) -> dict[At, Ranks]:
    """The ranks of each entry among those side by side, by metric in percent."""
    return by_metric(suite, found, ranges)


def ranges(values: Mapping[K, Mapping[int, float]], rounding: float) -> dict[K, Ranks]:
    """The ranks of several entries; the largest number has rank 1.

    Args:
        values: entry -> seed -> number.
        rounding: variance of the rounding of a difference of two numbers.
    """
    if len(values) < 2:
        return {}
    pairs = list(combinations(values, 2))
    gaps = [_gap(values[one], values[two], rounding) for one, two in pairs]
    adjusted = holm([p for p, _ in gaps])
    told = [
        (one, two) if gap > 0 else (two, one)
        for (one, two), (_, gap), p in zip(pairs, gaps, adjusted, strict=True)
        if p < LEVEL
    ]
    return {
        key: Ranks(
            1 + sum(worse == key for _, worse in told),
            len(values) - sum(better == key for better, _ in told),
        )
        for key in values
    }


def _gap(
    one: Mapping[int, float], two: Mapping[int, float], rounding: float
) -> tuple[float, float]:
    """The two-sided p-value of the difference of two entries, and its mean; 1 for one seed."""
    gaps = [one[seed] - two[seed] for seed in one if seed in two]
    if not gaps:
        return 1.0, 0.0
    found = BySeed(np.array(gaps, dtype=float).reshape(-1, 1), np.array([rounding]))
    gap = found.contrasts(np.ones((1, 1)))
    return min(1.0, 2 * min(gap.above(0.0)[0], gap.below(0.0)[0])), float(gap.value[0])


def explained(ranks: Mapping[At, Ranks]) -> list[str]:
    """The note that says what the ranks mean; empty without ranks."""
    if not ranks:
        return []
    return [
        "(a–b): the ranks among the pruned entries of its column that are not excluded at 5 %:"
        " paired t-tests over the seeds of every two entries, adjusted by Holm's method for their"
        f" number. {BEST}: rank 1 is not excluded."
    ]
