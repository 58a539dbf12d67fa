"""Which weights a layer keeps: the option group `pick`. A pick is `(scores (n,), k, rng) -> bool (n,)` with exactly k True.

Pruned weights have the score -inf and are never picked: `k` is at most the number of the others.
"""

from dataclasses import dataclass

from torch import Generator, Tensor

from pruners.base import largest


@dataclass(frozen=True)
class Top:
    """The k largest scores; ties go to the lower index."""

    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor:
        """Bool (n,) with exactly k True, also where fewer than k scores are positive. `rng` is not used."""
        return largest(scores, k)
