"""Random subsets of indices, and sums over them."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

DRAWS = 4_000_000  # indices per draw: bounds memory


def subset_sums(
    values: Tensor,
    size: int,
    subsets: int,
    rng: Generator,
    progress: Callable[[int, int, str], None] | None = None,
) -> Tensor:
    """Sums of `values` (n,), all >= 0, over random subsets of `size` entries: (subsets,).

    Subsets are drawn without replacement. The smaller of the subset and its complement is drawn
    with replacement; repeated entries are redrawn until all differ. Every step treats all entries
    alike, so all subsets are equally likely.
    """
    total, few = len(values), min(size, len(values) - size)
    rows, sums = max(1, DRAWS // max(few, 1)), list[Tensor]()
    for begin in range(0, subsets, rows):
        drawn = draw_subsets(total, few, min(rows, subsets - begin), rng)
        sums.append(values[drawn].sum(dim=1))
        if progress:
            progress(min(begin + rows, subsets), subsets, "random masks")
    found = torch.cat(sums)
    return found if few == size else (values.sum() - found).clamp(min=0)


def draw_subsets(total: int, size: int, subsets: int, rng: Generator) -> Tensor:
    """Draw random subsets of `size` of 0 ... total - 1: (subsets, size).

    A subset has no repetition, and all are equally likely. Meant for size <= total / 2.
    """
    drawn = torch.randint(total, (subsets, size), generator=rng)
    _draw_twins_anew(drawn, total, rng)
    return drawn


def _draw_twins_anew(drawn: Tensor, total: int, rng: Generator) -> None:
    """Redraw, in place, repeated entries of each row (rows, few) until every row has none."""
    left = torch.arange(len(drawn))
    while len(left):
        rows = drawn[left].sort(dim=1).values
        twins = torch.zeros_like(rows, dtype=torch.bool)
        twins[:, 1:] = rows[:, 1:] == rows[:, :-1]
        rows[twins] = torch.randint(total, (int(twins.sum()),), generator=rng)
        drawn[left] = rows
        left = left[twins.any(dim=1)]
