"""The bootstrap over test images agrees with enumeration, drawing and closed formulas, and covers.

With one pair of networks a difference of an image is 1, -1 or 0: what McNemar's test is about.
"""

from itertools import product
from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray

from runner.stats.estimates import SIDE
from runner.stats.evidence import LEVEL
from runner.stats.images import over_images

Ints = NDArray[np.int64]


def images(n: int, better: int, worse: int) -> Ints:
    """Differences of n images, of which some are right with one of two networks alone."""
    return np.repeat([1, -1, 0], [better, worse, n - better - worse]).astype(np.int64)


def test_few_images_agree_with_the_enumeration_of_all_draws() -> None:
    # two images, 1 and 0; with one added for each side the shares of -1, 0, 1 are 1/4, 1/4, 1/2
    total = dict.fromkeys(range(-4, 5), 0.0)
    for a, b in product(range(5), repeat=2):
        if (c := 4 - a - b) >= 0:
            ways = factorial(4) / factorial(a) / factorial(b) / factorial(c)
            total[c - a] += ways * 0.25 ** (a + b) * 0.5**c
    below = np.cumsum(list(total.values()))
    low = next(s for s, p in zip(total, below, strict=True) if p > SIDE) / 4
    high = next(s for s, p in zip(total, below, strict=True) if p >= 1 - SIDE) / 4
    assert over_images(np.array([1, 0])) == pytest.approx((low, high))
    assert (low, high) == (-0.5, 1.0)


@pytest.mark.parametrize(("n", "better", "worse"), [(10_000, 300, 200), (2000, 90, 110)])
def test_many_images_agree_with_mcnemars_variance(n: int, better: int, worse: int) -> None:
    low, high = over_images(images(n, better, worse))
    b, c, m = better + 1, worse + 1, n + 2
    mean, error = (b - c) / m, (b + c - (b - c) ** 2 / m) ** 0.5 / m
    assert low == pytest.approx(mean - 1.95996 * error, abs=1 / m)
    assert high == pytest.approx(mean + 1.95996 * error, abs=1 / m)
    assert (low > 0) is ((better - worse) ** 2 / (better + worse) > 1.95996**2)  # McNemar's test


def test_several_densities_agree_with_drawn_images() -> None:
    draws = np.random.default_rng(0)
    differences = draws.choice(
        [-3, -2, -1, 0, 1, 2, 3], 200, p=[0.01, 0.02, 0.1, 0.7, 0.12, 0.03, 0.02]
    )
    low, high = over_images(differences, 3)
    all_images = np.concatenate([differences, [-3, 3]])
    means = draws.choice(all_images, (20_000, len(all_images))).mean(axis=1) / 3
    # the error of a drawn quantile: sqrt(0.025 x 0.975 / 20,000) over the density there, 3 %
    width = high - low
    assert np.quantile(means, [SIDE, 1 - SIDE]) == pytest.approx([low, high], abs=0.02 * width)


def test_the_interval_of_equal_answers_is_no_point_and_turns_with_the_methods() -> None:
    low, high = over_images(images(360, 0, 0))
    assert -0.01 < low < 0 < high < 0.01
    one, two = over_images(images(360, 9, 2)), over_images(images(360, 2, 9))
    assert one == pytest.approx((-two[1], -two[0]))
    more = over_images(np.repeat(images(360, 9, 2), 2))
    assert more[1] - more[0] < one[1] - one[0]


@pytest.mark.parametrize("n", [100, 360, 2000])
@pytest.mark.parametrize(
    ("better", "worse"), [(0.002, 0.002), (0.01, 0.01), (0.03, 0.01), (0.1, 0.05), (0.02, 0.0)]
)
def test_the_interval_covers_the_truth_of_all_images(n: int, better: float, worse: float) -> None:
    """The probabilities that an image is right with one alone; networks agree on the rest."""
    draws, times = np.random.default_rng(1), 400
    missed = 0
    for b, c, _ in draws.multinomial(n, [better, worse, 1 - better - worse], times):
        low, high = over_images(images(n, b, c))
        missed += not low <= better - worse <= high
    assert missed / times <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / times) ** 0.5


@pytest.mark.parametrize("correlation", [0.0, 0.75])
def test_densities_that_answer_alike_keep_the_coverage(correlation: float) -> None:
    """An image is hard for all densities or for none, so that their differences correlate."""
    draws, times, n, parts = np.random.default_rng(2), 300, 360, 3
    p, missed = np.array([0.03, 0.94, 0.03]), 0
    for _ in range(times):
        own = draws.choice([-1, 0, 1], (n, parts), p=p)
        shared = draws.choice([-1, 0, 1], (n, 1), p=p)
        taken = np.where(draws.random((n, parts)) < correlation**0.5, shared, own)
        low, high = over_images(taken.sum(axis=1), parts)
        missed += not low <= 0 <= high
    assert missed / times <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / times) ** 0.5
