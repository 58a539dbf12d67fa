"""Judge a paper's comparative claims about a table by pairs of our own records.

    claims:
      - {claim: TEXT, entry: ID, above: ID or [ID, ...]}

The ids are methods or columns; `when` is as in other parts of a YAML. A pair is two runs of one
seed in cells that differ by these ids alone. Each network of each panel has a line: the mean
difference in points over its densities and seeds, its 95 % interval by Student's t over the pairs,
and a verdict. The claim holds if the whole interval is above zero and fails if it is below zero.
Otherwise the verdict is "open". Pairs with a diverged run are left out and counted.

Runs of one seed at several densities share their initial weights. Pairs are therefore not fully
independent, and intervals are somewhat too short. Intervals are not corrected for the number of
comparisons: of twenty comparisons between equals, one is expected to get a verdict.
"""

import statistics
from collections import Counter

from runner.suites.expand import Suite
from runner.suites.metrics import ACCURACY
from runner.suites.numbers import student
from runner.suites.page import Key
from runner.suites.rules import applies
from runner.suites.verdicts import FAILS, HOLDS, OPEN, Verdict
from runner.tables.entries import Entry, table_spec

AXES = ("method", "column")  # along which entries are compared
# Points. Accuracies on few test images can differ equally in all pairs, which gives no spread.
EQUAL = 1e-9
APART = ("panel", "network")  # axes whose values have separate verdicts


def compared(suite: Suite, found: dict[Key, Entry]) -> list[Verdict]:
    """Judge every claim of a table for every rival and network."""
    claims = [claim for claim in table_spec(suite).claims if applies(claim.when, suite.options)]
    entries = list(found.values())
    return [
        verdict
        for claim in claims
        for rival in claim.above.ids
        for verdict in _against(claim.claim, claim.entry, rival, entries)
    ]


def _against(claim: str, ref: str, rival: str, entries: list[Entry]) -> list[Verdict]:
    """Return a verdict for each network of each panel that has both entries."""
    pairs: dict[tuple[str, ...], list[float]] = {}
    left_out: Counter[tuple[str, ...]] = Counter()
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
                pairs.setdefault(where, []).extend(_differences(entry, other))
                left_out[where] += len(_diverged_seeds(entry) | _diverged_seeds(other))
    several = [len({where[i] for where in pairs}) > 1 for i in range(len(APART))]
    return [
        _judge(
            f"{claim}: {', '.join([*_named(where, several), f'{names[ref]} - {names[rival]}'])}",
            found,
            left_out[where],
        )
        for where, found in pairs.items()
    ]


def _key(ids: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(ids.items()))


def _named(where: tuple[str, ...], several: list[bool]) -> list[str]:
    """The panel and network, if the lines differ in them."""
    return [name for name, differs in zip(where, several, strict=True) if differs]


def _differences(entry: Entry, other: Entry) -> list[float]:
    """The accuracy of `entry` minus that of `other` in points, for every seed that both have."""
    ours, theirs = (_by_seed(each) for each in (entry, other))
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def _diverged_seeds(entry: Entry) -> set[int]:
    return {job.run.seed for job in entry.requested if entry.diverged([job])}


def _by_seed(entry: Entry) -> dict[int, float]:
    values = {record["seed"]: entry.number(record, ACCURACY) for record in entry.records}
    return {seed: value for seed, value in values.items() if value is not None}


def _judge(claim: str, differences: list[float], left_out: int) -> Verdict:
    """Judge the differences of the pairs; `left_out`: number of pairs with a diverged run."""
    n, more = len(differences), f"{left_out} left out, diverged"
    if not n:
        return Verdict(claim, f"no pair, {more}", holds=OPEN) if left_out else Verdict(claim)
    mean = statistics.fmean(differences)
    shown = f"{_signed(mean)} points, {n} pair{'s' if n > 1 else ''}"
    shown += f" ({more})" if left_out else ""
    if max(differences) - min(differences) < EQUAL:
        return Verdict(claim, shown if n == 1 else f"{shown}, all equal", holds=OPEN)
    half = student(n - 1) * statistics.stdev(differences) / n**0.5
    low, high = mean - half, mean + half
    holds = HOLDS if low > 0 else FAILS if high < 0 else OPEN
    return Verdict(claim, shown, f"[{_signed(low)}, {_signed(high)}]", holds)


def _signed(points: float) -> str:
    return f"{round(points, 2) + 0.0:+.2f}"  # adding zero turns -0.00 into 0.00
