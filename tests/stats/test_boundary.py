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
