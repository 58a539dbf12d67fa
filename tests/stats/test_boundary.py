"""Boundaries of phase diagrams do not depend on the order of sums, hence not on the processor."""

import numpy as np
from scipy.special import expit

from runner.stats.boundary import Cells, columns


def test_the_order_of_the_cells_changes_no_digit_of_the_boundaries() -> None:
    rng = np.random.default_rng(0)
    x, y = (side.ravel() for side in np.meshgrid(np.arange(1.0, 6), np.linspace(0.5, 12, 9)))
    shares = rng.binomial(20, expit(y - 2 * x)) / 20
    cells = Cells(x, y, shares, np.full(x.shape, 20.0))
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(x))
        mixed = Cells(x[order], y[order], shares[order], cells.trials[order])
        assert columns(mixed) == columns(cells)


def test_the_interval_of_a_column_that_is_all_failures_contains_its_boundary() -> None:
    # boundaries at 2, 3, 4 and 30, on a grid of y from 1 to 9: the last column has no success
    true = {1.0: 2.0, 2.0: 3.0, 3.0: 4.0, 4.0: 30.0}
    x, y = (side.ravel() for side in np.meshgrid(list(true), np.arange(1.0, 10)))
    shares = np.round(20 * expit(2 * (y - [true[each] for each in x]))) / 20
    found = {c.x: c for c in columns(Cells(x, y, shares, np.full(x.shape, 20.0)))}
    assert all(found[each].inside and found[each].low < found[each].high for each in (1.0, 2.0))
    last = found[4.0]
    assert not last.inside and 9 < last.low <= last.y <= last.high == np.inf
    # and the other way round
    flipped = {c.x: c for c in columns(Cells(x, -y, 1 - shares, np.full(x.shape, 20.0)))}
    assert flipped[4.0].low == -np.inf and flipped[4.0].y <= flipped[4.0].high < -9
