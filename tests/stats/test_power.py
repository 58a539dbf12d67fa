"""Power agrees with simulated t-tests, with the normal law and with published sample sizes."""

import numpy as np
import pytest

from runner.stats.power import MOST, POWER, power, seeds_needed, smallest_difference


@pytest.mark.parametrize("n", [3, 5, 30])
@pytest.mark.parametrize("level", [0.05, 0.05 / 10])
def test_the_smallest_difference_is_told_in_80_percent_of_simulations(n: int, level: float) -> None:
    smallest = smallest_difference(n, level)
    assert smallest is not None
    draws, times = np.random.default_rng(0), 20_000
    pairs = smallest + draws.standard_normal((times, n))
    t = pairs.mean(axis=1) / pairs.std(axis=1, ddof=1) * n**0.5
    # the limits of Student's t by simulation, too: of as many samples without a difference
    null = draws.standard_normal((200_000, n))
    limits = np.abs(null.mean(axis=1) / null.std(axis=1, ddof=1) * n**0.5)
    told = float((t > np.quantile(limits, 1 - level)).mean())
    assert told == pytest.approx(POWER, abs=0.02)


@pytest.mark.parametrize(("difference", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (-0.8, 15)])
def test_seeds_needed_are_those_of_cohens_paired_t_test(difference: float, seeds: int) -> None:
    """Two-sided level 0.05, power 0.8: the numbers that G*Power prints for matched pairs."""
    assert seeds_needed(difference) == seeds


def test_many_seeds_follow_the_normal_law() -> None:
    # (1.959964 + 0.841621) / sqrt(n)
    assert smallest_difference(5000) == pytest.approx(2.801585 / 5000**0.5, rel=1e-3)
    assert seeds_needed(2.801585 / 5000**0.5) == pytest.approx(5000, abs=4)


def test_one_seed_tells_nothing_and_too_many_seeds_are_not_counted() -> None:
    assert smallest_difference(1) is None and smallest_difference(0) is None
    assert seeds_needed(0.0) is None and seeds_needed(2.8 / (2 * MOST) ** 0.5) is None
    assert power(0.0, 3) == pytest.approx(0.025, abs=1e-6)  # in the right direction alone
