"""The memory part of the bench: what it measures is what was taken, and it finds its methods by
what they are."""

import pytest
import torch

from runner.bench.memory import _pruner, resident

MIB = 2**20


def test_the_peak_counts_what_was_taken_since_the_last_look_even_if_it_was_given_back() -> None:
    for size in (300, 100):  # the second, smaller peak is seen because the first is forgotten
        before = resident()
        block = torch.ones(size * MIB, dtype=torch.uint8)
        del block
        taken = (resident(peak=True) - before) / MIB
        assert size * 0.9 < taken < size * 1.1 + 20


@pytest.mark.parametrize(
    ("name", "measured"),
    [("snip", True), ("magnitude", True), ("dense", False), ("synflow", False), ("imc", False)],
)
def test_methods_that_score_once_are_measured(name: str, measured: bool) -> None:
    assert (_pruner(name) is not None) == measured
