"""The comparisons that a table's claims are about: differences of two entries by seed.

A claim compares two methods or columns. Its cells are pairs of entries that differ by these ids
alone; each network of each panel is a comparison of its own, over all its densities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from runner.records.kinds import kind_of
from runner.stats.estimates import Array
from runner.stats.images import over_images
from runner.stats.seeds import BySeed, Measured, Sample, of_samples
from runner.suites.expand import Suite
from runner.suites.metrics import ACCURACY, Metric
from runner.suites.page import Key
from runner.suites.rules import applies
from runner.tables.entries import Entry, table_spec

AXES = ("method", "column")  # along which entries are compared
APART = ("panel", "network")  # axes whose values have separate verdicts
Pair = tuple[Entry, Entry]


@dataclass(frozen=True)
class Comparison:
    """An entry and a rival on one network of one panel.

    Args:
        pairs: the two entries at each density.
    """

    claim: str
    pairs: tuple[Pair, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are requested of both."""
        (one, two), *_ = self.pairs
        theirs = {job.outline.seed for job in two.requested}
        return tuple(sorted({job.outline.seed for job in one.requested} & theirs))

    @property
    def same(self) -> bool:
        """Whether the two entries have the same runs everywhere, so that there is no rival."""
        return all(
            {job.run_id for job in one.requested} == {job.run_id for job in two.requested}
            for one, two in self.pairs
        )

    @property
    def diverged(self) -> int:
        """The number of pairs of runs of which one diverged."""
        return sum(len(_diverged(one) | _diverged(two)) for one, two in self.pairs)

    @cached_property
    def compared(self) -> tuple[Pair, ...]:
        """The pairs of which some seed has both entries."""
        return tuple(pair for pair in self.pairs if _common(pair))

    @property
    def some(self) -> int:
        """Number of seeds that have both entries at any density."""
        return len(set().union(*map(_common, self.pairs)))

    @cached_property
    def measured(self) -> BySeed:
        """The accuracies in percent: those of the first entry at each density, then the rival's.

        They are those of the seeds that have all densities that any has. Each is rounded to one
        test image, hence the floor of its variance: that of a uniform distribution.
        """
        entries = [pair[side] for side in (0, 1) for pair in self.compared]
        if not entries:
            return BySeed(np.empty((0, 2)), np.zeros(2))
        floors = [one_image(entry) ** 2 / 12 for entry in entries]
        return of_samples([sample(entry) for entry in entries], floors)

    @property
    def weights(self) -> Array:
        """The contrast of `measured` that is the mean difference over densities, shape (1, k)."""
        n = max(1, len(self.compared))
        return np.repeat([1 / n, -1 / n], n)[None]

    @property
    def over_images(self) -> tuple[float, float] | None:
        """The 95 % interval in points over test images, for one seed with saved predictions.

        None for several seeds, or if a run at one of the densities has no predictions.
        """
        found = [_answers(pair) for pair in self.pairs]
        there = [answers for answers in found if answers is not None]
        if len(there) < len(found) or len({len(answers) for answers in there}) > 1:
            return None
        low, high = over_images(np.sum(there, axis=0), len(there))
        return 100 * low, 100 * high

    @property
    def papers(self) -> tuple[float, float | None] | None:
        """The paper's difference, a mean over densities, and the deviation of one seed.

        None if the paper does not print both accuracies. The deviation is None if it does not print
        both deviations; the paper's runs are taken as independent.
        """
        numbers = [
            (_number(one, "accuracy_mean"), _number(two, "accuracy_mean"))
            for one, two in self.pairs
        ]
        known = [a - b for a, b in numbers if a is not None and b is not None]
        if not known:
            return None
        spreads = [_number(entry, "accuracy_std") for pair in self.pairs for entry in pair]
        given = [spread for spread in spreads if spread is not None]
        variance = sum(spread**2 for spread in given) / len(self.pairs) ** 2
        return float(np.mean(known)), (
            math.sqrt(variance) if len(given) == len(spreads) and variance else None
        )


def comparisons(suite: Suite, found: dict[Key, Entry]) -> list[Comparison]:
    """All comparisons of a table's claims, for every rival and network."""
    claims = [claim for claim in table_spec(suite).claims if applies(claim.when, suite.options)]
    entries = list(found.values())
    return [
        comparison
        for claim in claims
        for rival in claim.above.ids
        for comparison in _against(claim.claim, claim.entry, rival, entries)
    ]


def one_image(entry: Entry) -> float:
    """The points that one test image makes; 0 for an entry without runs."""
    images = next((job.outline.test_images for job in entry.cell.jobs), 0)
    return 100 / images if images else 0.0


def sample(entry: Entry, metric: Metric = ACCURACY) -> Sample:
    """Seed -> the number of a metric with its kind, where a record has it."""
    numbers = {r["seed"]: (entry.number(r, metric), kind_of(r)) for r in entry.records}
    return {s: Measured(value, kind) for s, (value, kind) in numbers.items() if value is not None}


def _against(claim: str, ref: str, rival: str, entries: Sequence[Entry]) -> list[Comparison]:
    """A comparison for each network of each panel that has both entries."""
    pairs: dict[tuple[str, ...], list[Pair]] = {}
    cells = [entry.cell for entry in entries]
    names = {
        cell.ids[axis]: cell.labels[axis] for cell in cells for axis in AXES if axis in cell.ids
    }
    for axis in AXES:
        theirs = {
            _key(entry.cell.ids): entry for entry in entries if entry.cell.ids.get(axis) == rival
        }
        for entry in (entry for entry in entries if entry.cell.ids.get(axis) == ref):
            other = theirs.get(_key({**entry.cell.ids, axis: rival}))
            if other is not None:
                where = tuple(entry.cell.labels.get(name, "") for name in APART)
                pairs.setdefault(where, []).append((entry, other))
    several = [len({where[i] for where in pairs}) > 1 for i in range(len(APART))]
    return [
        Comparison(
            f"{claim}: {', '.join([*_named(where, several), f'{names[ref]} - {names[rival]}'])}",
            tuple(there),
        )
        for where, there in pairs.items()
    ]


def _key(ids: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(ids.items()))


def _named(where: tuple[str, ...], several: list[bool]) -> list[str]:
    """The panel and network, if the lines differ in them."""
    return [name for name, differs in zip(where, several, strict=True) if differs]


def _common(pair: Pair) -> set[int]:
    """The seeds of which both entries have an accuracy."""
    one, two = (set(sample(each)) for each in pair)
    return one & two


def _answers(pair: Pair) -> NDArray[np.int64] | None:
    """For each test image, 1 if only the first entry's only run is right, -1 if only the other's.

    None unless both have one run, of the same seed, with saved predictions.
    """
    ours, theirs = (entry.records for entry in pair)
    if len(ours) != 1 or [r["seed"] for r in ours] != [r["seed"] for r in theirs]:
        return None
    one, two = (entry.answers(entry.records[0]) for entry in pair)
    if one is None or two is None or len(one) != len(two):
        return None
    return one.astype(np.int64) - two.astype(np.int64)


def _diverged(entry: Entry) -> set[int]:
    return {job.outline.seed for job in entry.requested if entry.diverged([job])}


def _number(entry: Entry, column: str) -> float | None:
    """A number of the paper's line; None if it prints none."""
    try:
        return float(entry.paper.get(column, ""))
    except ValueError:
        return None
