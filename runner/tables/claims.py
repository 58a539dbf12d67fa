"""Judge a paper's comparative claims about a table by pairs of our own records.

    claims:
      - {claim: TEXT, entry: ID, above: ID or [ID, ...]}

The ids are methods or columns; `when` is as in other parts of a YAML. A seed gives one number: the
difference of two runs of this seed in cells that differ by these ids alone, a mean over the
densities. Each network of each panel has a line: the mean over seeds in points, its 95 % interval
by Student's t over seeds, and a verdict. A claim that an entry is better holds if the mean is above
zero and its p-value, adjusted for the number of lines on the page, is below 5 %; it does not hold
if the mean is below zero. Otherwise the verdict is "open". Seeds that lack a density, pairs with a
diverged run, and densities without a pair are left out and counted. Runs of equal seed of different
kinds of machine or versions are no pairs (runner/stats/seeds.py).

Accuracies are counts of test images, so that differences can be equal by chance. The variance of a
seed's number is therefore at least that of its rounding to one test image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from runner.stats.evidence import LEVEL, above
from runner.stats.power import MOST, seeds_needed, smallest_difference
from runner.suites.expand import Suite
from runner.suites.page import Key
from runner.suites.verdicts import (
    NONE,
    OPEN,
    OVER_IMAGES,
    Power,
    Verdict,
    decided,
    seeds_used,
    told_by,
)
from runner.tables.comparisons import Comparison, comparisons
from runner.tables.entries import Entry


def compared(suite: Suite, found: dict[Key, Entry]) -> list[Verdict]:
    """Judge every claim of a table for every rival and network."""
    return decided([_judge(line) for line in comparisons(suite, found)])


def _judge(line: Comparison) -> Verdict:
    """The verdict of a comparison, before it is decided."""
    if line.same:
        return Verdict(line.claim, "one set of runs: nothing to compare", holds=OPEN)
    measured = line.measured
    papers, papers_spread = line.papers or (None, None)
    n = len(measured.values)
    left_out = _left_out(line, n)
    if not n:
        power = Power(0, None, papers, papers_spread)
        if left_out:
            text = f"no pair, {'; '.join(left_out)}"
            return Verdict(line.claim, text, power=power, holds=OPEN)
        return Verdict(line.claim, power=power)
    mean, pairing = measured.contrasts(line.weights), measured.pairing(line.weights)
    shown = f"{_signed(float(mean.value[0]))} points, {seeds_used(pairing, left_out)}"
    power = Power(n, _spread(line), papers, papers_spread, unit=" points")
    verdict = Verdict(line.claim, shown, power=power, pairing=pairing, holds=OPEN)
    if not mean.known[0]:
        images = line.over_images if n == 1 else None
        interval = f"{_interval(*images)} {OVER_IMAGES}" if images else NONE
        return replace(verdict, interval=interval)
    evidence = above(mean)
    return replace(verdict, interval=_interval(evidence.low, evidence.high), evidence=evidence)


def _left_out(line: Comparison, seeds: int) -> list[str]:
    """What a comparison of so many seeds leaves out, counted."""
    some, all_, there = line.some, len(line.pairs), len(line.compared)
    parts = [f"{some - seeds} left out, incomplete"] if some > seeds else []
    parts += [f"{line.diverged} left out, diverged"] if line.diverged else []
    missing = f"{all_ - there} of {all_} densities left out, no pair"
    return [*parts, *([missing] if 0 < there < all_ else [])]


def _interval(low: float, high: float) -> str:
    return f"[{_signed(low)}, {_signed(high)}]"


def powers(suite: Suite, found: dict[Key, Entry]) -> Iterator[str]:
    """Lines for a plan: which differences the seeds can tell, and what the paper's would need.

    The spread of a seed's difference is that of our records if there are any, else that of the
    paper's deviations; for the paper's own differences the paper's takes precedence.
    """
    lines = comparisons(suite, found)
    if not lines:
        return
    level, seeds = LEVEL / len(lines), min(len(line.seeds) for line in lines)
    yield f"power of {suite.name}: {told_by(seeds, len(lines))}{_told(lines, seeds, level)}"
    needed, unknown = [], 0
    for line in lines:
        difference, spread = line.papers or (None, None)
        spread = spread or _spread(line)
        if difference is not None and spread:
            needed.append(seeds_needed(difference / spread, level) or np.inf)
        elif difference is not None:
            unknown += 1
    if needed:
        ends = dict.fromkeys(_seeds(count) for count in (min(needed), max(needed)))
        yield f"  the paper's own differences need {' to '.join(ends)} seeds"
    if unknown:
        yield (
            f"  how many seeds {unknown} of the paper's differences need is not known: it prints no"
            " deviations, and fewer than two of our seeds are measured"
        )


def _seeds(count: float) -> str:
    return f"{count:.0f}" if np.isfinite(count) else f"more than {MOST:,}"


def _told(lines: Sequence[Comparison], seeds: int, level: float) -> str:
    """The smallest differences in points; empty without a spread."""
    smallest = smallest_difference(seeds, level)
    known = [_spread(line) or (line.papers or (0.0, None))[1] for line in lines]
    spreads = [spread for spread in known if spread]
    if smallest is None or not spreads:
        return ""
    ends = dict.fromkeys(f"{smallest * spread:.2g}" for spread in (min(spreads), max(spreads)))
    return f": {' to '.join(ends)} points"


def _spread(line: Comparison) -> float | None:
    """The standard deviation of a seed's number; None if it is unknown."""
    mean, pairing = line.measured.contrasts(line.weights), line.measured.pairing(line.weights)
    if not mean.known[0]:
        return None
    return float(mean.error[0]) * float((pairing.seeds - pairing.left_out) ** 0.5)


def _signed(points: float) -> str:
    return f"{round(points, 2) + 0.0:+.2f}"  # adding zero turns -0.00 into 0.00
