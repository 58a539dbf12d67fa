"""The benchmark row about theory experiments: equal work on both sides, memory bound by chunks."""

import torch

from pruners.theory.trials import chunk_size
from runner.bench.trials import SOLVER, TEACHER, solving, trial_comparison, trial_memory

CPU = torch.device("cpu")


def test_both_sides_solve_the_same_trials() -> None:
    together, alone = (torch.cat(solving(CPU, 5, size)()) for size in (None, 1e-6))
    assert together.shape == (5, 5, 100) and torch.allclose(together, alone, rtol=0, atol=1e-9)


def test_the_row_states_the_size_of_the_problem() -> None:
    comparison = trial_comparison(CPU)
    assert (
        f"d = 100, K = 5, N = 400, {SOLVER.steps} steps, {chunk_size(TEACHER, CPU, None)} at a time"
        in comparison.work
    )


def test_memory_is_bounded_by_the_chunk_and_not_by_the_number_of_trials() -> None:
    inputs, taken = trial_memory()
    assert 0.5e6 < inputs <= 2e6  # pruners/theory/trials.py: two megabytes on a CPU
    # sixteen trials in one chunk would need 5 MB of inputs; allocators hold some more
    assert 0 < taken < 60e6
