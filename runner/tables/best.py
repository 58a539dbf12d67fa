"""The best of the entries side by side, and those that cannot be told from it.

Entries are compared with those that differ from them in the method alone (or, in a table of one
method, in the column alone). An entry is told from the best one if a one-sided paired t-test over
the seeds (Welch's, if these are of different kinds, hence no pairs) says that it is worse, at 5 %
divided by the number of comparisons. The entry that is the best in truth is therefore marked with a
probability of at least 95 %: it is left out only if one of the others is found better by error
(Bonferroni; differences of a seed are taken as normal).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from runner.stats.evidence import LEVEL
from runner.stats.seeds import DIFFERENCE, Pairing, Sample, difference
from runner.suites.expand import Suite
from runner.suites.metrics import Metric
from runner.suites.page import Key
from runner.suites.verdicts import unlike_seeds
from runner.tables.comparisons import AXES, one_image, sample
from runner.tables.entries import Entry, metrics

BEST, TIED = "•", "◦"  # signs after a number
At = tuple[Key, str]  # an entry and the name of a metric
Ids = tuple[tuple[str, str], ...]
K = TypeVar("K")
V = TypeVar("V")
Compare = Callable[[Mapping[Key, Sample], float], dict[Key, V]]


def ranked(suite: Suite, found: Mapping[Key, Entry]) -> dict[At, str]:
    """The sign of each entry that is the best, or not told from it, by metric in percent.

    Nets from which nothing is pruned are left out, and so is a number without a rival. Entries of
    the same runs share a sign.
    """
    return by_metric(suite, found, best_and_tied)


def by_metric(suite: Suite, found: Mapping[Key, Entry], compare: Compare[V]) -> dict[At, V]:
    """What `compare` finds for the entries side by side, by metric in percent.

    Args:
        compare: takes entry -> its sample and the variance of the rounding of a number.
    """
    axis = _axis(suite)
    groups: dict[Ids, list[Key]] = {}
    for key, entry in found.items():
        if entry.records and any(record["sparsity"] for record in entry.records):
            ids = {name: text for name, text in entry.cell.ids.items() if name != axis}
            groups.setdefault(tuple(sorted(ids.items())), []).append(key)
    return {
        (key, metric.name): value
        for metric in metrics(suite)
        if metric.points
        for keys in groups.values()
        for key, value in _compared(metric, {key: found[key] for key in keys}, compare).items()
    }


def _axis(suite: Suite) -> str:
    """The axis along which entries are compared: the method, if the table has several."""
    methods = {cell.ids.get(AXES[0], "") for cell in suite.cells.values()}
    return AXES[0] if len(methods) > 1 else AXES[1]


def _compared(
    metric: Metric, side_by_side: Mapping[Key, Entry], compare: Compare[V]
) -> dict[Key, V]:
    """What `compare` finds for entries that differ in one axis alone."""
    measured = {key: sample(entry, metric) for key, entry in side_by_side.items()}
    values = {key: numbers for key, numbers in measured.items() if numbers}
    runs = {key: tuple(job.run_id for job in side_by_side[key].jobs) for key in values}
    first = {runs[key]: key for key in reversed(values)}  # one entry for each set of runs
    image = max((one_image(entry) for entry in side_by_side.values()), default=0.0)
    signs = compare({key: values[key] for key in first.values()}, image**2 / 12)
    return {key: signs[first[runs[key]]] for key in values if first[runs[key]] in signs}


def best_and_tied(values: Mapping[K, Sample], rounding: float) -> dict[K, str]:
    """The signs of the best of several entries and of those that are not told from it.

    Args:
        rounding: variance of the rounding of a number.
    """
    if len(values) < 2:
        return {}
    best = best_of(values)
    if all(len(numbers) < 2 for numbers in values.values()):
        return {best: BEST}  # one seed tells nothing
    level = LEVEL / (len(values) - 1)
    return {best: BEST} | {
        key: TIED
        for key, numbers in values.items()
        if key != best and not worse(numbers, values[best], rounding, level)
    }


def best_of(values: Mapping[K, Sample]) -> K:
    """The entry with the highest mean."""
    return max(
        values, key=lambda key: float(np.mean([each.value for each in values[key].values()]))
    )


def worse(ours: Sample, best: Sample, rounding: float, level: float) -> bool:
    """Whether a one-sided t-test over the common seeds says that `ours` is worse.

    Args:
        rounding: variance of the rounding of a number.
    """
    found = difference(best, ours, rounding).contrasts(DIFFERENCE)
    return bool(found.above(0.0)[0] < level)


def with_best(values: Mapping[K, Sample], rounding: float) -> dict[K, Pairing]:
    """How the seeds of each entry are paired with those of the best one."""
    if len(values) < 2:
        return {}
    best = best_of(values)
    return {
        key: difference(values[best], numbers, rounding).pairing(DIFFERENCE)
        for key, numbers in values.items()
        if key != best
    }


def explained(signs: Sequence[str], several: bool, pairings: Sequence[Pairing]) -> list[str]:
    """The notes that say what the signs mean; empty without signs.

    Args:
        several: whether any entry has more than one seed.
        pairings: `with_best` of all entries.
    """
    if not signs:
        return []
    rest = (
        f"; {TIED}: not told from it by its seeds (one-sided paired t, 5 % over the comparisons)"
        if several
        else "; one seed tells no other from it"
    )
    notes = unlike_seeds(pairings) if several else []
    return [f"{BEST}: the best of the pruned entries side by side{rest}.", *notes]
