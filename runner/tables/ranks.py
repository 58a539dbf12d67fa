"""Ranks of the entries side by side: for each entry, the ranks that its seeds do not exclude.

Every two entries are compared by a two-sided paired t-test over the seeds that both have (Welch's,
if these are of different kinds, hence no pairs); the p-values of all pairs of entries are adjusted
by Holm's method. An entry has rank 1 + b at best and n - w at worst, where b of the n entries are
found better and w worse. All ranges of a group contain the true ranks with a probability of at
least 95 %, because no comparison is in error with at least that probability (differences of a seed
are taken as normal).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from runner.stats.evidence import LEVEL, holm
from runner.stats.seeds import DIFFERENCE, Pairing, Sample, difference
from runner.suites.expand import Suite
from runner.suites.page import Key
from runner.suites.verdicts import unlike_seeds
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


def ranges(values: Mapping[K, Sample], rounding: float) -> dict[K, Ranks]:
    """The ranks of several entries; the largest number has rank 1.

    Args:
        rounding: variance of the rounding of a number.
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


def _gap(one: Sample, two: Sample, rounding: float) -> tuple[float, float]:
    """The two-sided p-value of the difference of two entries, and its mean; 1 for one seed."""
    if not one.keys() & two.keys():
        return 1.0, 0.0
    gap = difference(one, two, rounding).contrasts(DIFFERENCE)
    return min(1.0, 2 * min(gap.above(0.0)[0], gap.below(0.0)[0])), float(gap.value[0])


def with_rivals(values: Mapping[K, Sample], rounding: float) -> dict[K, tuple[Pairing, ...]]:
    """How the seeds of each entry are paired with those of the entries after it."""
    found: dict[K, tuple[Pairing, ...]] = {}
    for one, two in combinations(values, 2):
        pairing = difference(values[one], values[two], rounding).pairing(DIFFERENCE)
        found[one] = (*found.get(one, ()), pairing)
    return found


def explained(ranks: Mapping[At, Ranks], pairings: Sequence[Pairing]) -> list[str]:
    """The notes that say what the ranks mean; empty without ranks.

    Args:
        pairings: `with_rivals` of all entries.
    """
    if not ranks:
        return []
    return [
        "(a–b): the ranks among the pruned entries of its column that are not excluded at 5 %:"
        " paired t-tests over the seeds of every two entries, adjusted by Holm's method for their"
        f" number. {BEST}: rank 1 is not excluded.",
        *unlike_seeds(pairings),
    ]
