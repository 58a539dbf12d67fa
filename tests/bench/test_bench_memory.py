"""The memory parts of the benchmark: measured peaks, and the methods that are measured."""

import pytest
import torch

from runner.bench import memory_by_classes
from runner.bench.memory import _pruner, resident

MIB = 2**20


def test_the_peak_counts_freed_allocations_since_the_last_measurement() -> None:
    for size in (300, 100):  # the second, smaller peak is measured because the first is reset
        before = resident()
        block = torch.ones(size * MIB, dtype=torch.uint8)
        del block
        taken = (resident(peak=True) - before) / MIB
        assert size * 0.9 < taken < size * 1.1 + 20


@pytest.mark.parametrize(
    ("name", "measured"),
    [("snip", True), ("magnitude", True), ("dense", False), ("synflow", False), ("imc", False)],
)
def test_only_methods_that_score_once_are_measured(name: str, measured: bool) -> None:
    assert (_pruner(name) is not None) == measured


@pytest.mark.slow
def test_peaks_do_not_grow_with_the_number_of_classes() -> None:
    for peaks in memory_by_classes.measured():
        one, hundred = peaks.taken
        # 400 images take 0.1 MiB, and a few copies of them exist; without a bound, a hundredfold
        assert hundred < 1.1 * one + MIB / 2, peaks.name
