"""Verdicts on figures say which seeds and points they come from, and use those alone."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from runner.figures.judges import of_extreme, of_fall, of_order, of_stability
from runner.figures.points import Point, Series
from runner.stats.seeds import Kind, Measured
from runner.suites.verdicts import OPEN, Verdict, footer

AVX2: Kind = (("kinds of CPU", "AVX2"),)
NUMBERS = np.array([[1.0, 2.0], [1.5, 2.0], [1.2, 2.5]])  # of three seeds


def series(*points: dict[int, float], kind: Kind = ()) -> Series:
    """Points at x = 1, 2, ..., each with the numbers of its seeds."""
    found = tuple(
        Point(
            str(x),
            len(numbers),
            float(x),
            float(np.mean(list(numbers.values()))),
            by_seed=tuple((seed, Measured(y, kind)) for seed, y in numbers.items()),
        )
        for x, numbers in enumerate(points, start=1)
    )
    return Series("p", "s", "curve", found, 9, 9, 0, "solid")


def with_seeds(values: np.ndarray, kind: Kind = ()) -> Series:
    return series(*(dict(enumerate(map(float, ys))) for ys in values.T), kind=kind)


def test_numbers_are_those_of_the_seeds_that_all_points_have() -> None:
    """Seed 2, whose first number is 100, lacks the second point."""
    low = series({0: 1.0, 1: 2.0, 2: 100.0}, {0: 2.0, 1: 3.0})
    high = series({0: 2.0, 1: 3.0, 2: 0.0}, {0: 4.0, 1: 5.0, 2: 0.0})
    left_out = "2 seeds (1 left out, incomplete)"
    texts = {
        of_order(low, high, 0, False): f"2 of 2 points, gap 1.5 on average, {left_out}",
        of_order(low, high, 0, True): f"2 of 2 points, gap 1 at least, {left_out}",
        of_extreme(low, (1.5, 2.5), 1): f"greatest, 2.5, at 2, {left_out}",
        of_stability(low, (0, 9), 2.0): f"2 points within 1, {left_out}",
        of_fall(low, 1.0, 2.0, 0.5): f"from 1.5 to 2.5, {left_out}",
    }
    assert [verdict.measured for verdict in texts] == [*texts.values()]
    whole = of_order(with_seeds(NUMBERS), with_seeds(NUMBERS + 1), 0, False)
    assert whole.measured.endswith("on average, 3 seeds")


def test_points_of_one_series_alone_are_counted() -> None:
    longer = with_seeds(np.hstack([NUMBERS + 1, NUMBERS]))
    found = of_order(with_seeds(NUMBERS), longer, 0, False)
    assert found.measured.startswith("2 of 2 points, gap 1 on average, 3 seeds (2 points of one")


def test_no_common_seed_leaves_a_claim_open() -> None:
    apart = series({0: 1.0, 1: 2.0}, {2: 2.0, 3: 3.0})
    found: list[Verdict] = [
        of_extreme(apart, (1.5, 2.5), 1),
        of_stability(apart, (0, 9), 2.0),
        of_fall(apart, 1.0, 2.0, 0.5),
    ]
    assert {(each.measured, each.holds) for each in found} == {("no seed has all points", OPEN)}


def test_series_of_different_kinds_are_two_samples() -> None:
    ours, theirs = with_seeds(NUMBERS, AVX2), with_seeds(NUMBERS[::-1] + 0.8)
    found = of_order(ours, theirs, 0, False)
    assert found.measured.endswith("on average, 3 seeds, not paired") and found.evidence
    means = NUMBERS.mean(axis=1), NUMBERS[::-1].mean(axis=1) + 0.8
    assert found.evidence.p == pytest.approx(ttest_ind(*means, equal_var=False).pvalue)
    assert "No pairs: in 3 of 3 cases" in footer([found])
    # within a series of one kind, the seeds stay pairs
    assert of_fall(ours, 1.0, 2.0, 0.0).measured.endswith(", 3 seeds")
