"""Choice of the weights that a layer keeps: the option group `pick`.

A pick is `(scores (n,), k, rng) -> (n,)`: bool with exactly k True, or the factors of Algorithm 1.
Pruned weights have the score -inf and are never picked: `k` is at most the number of the others.
Random picks draw on the CPU, so that every device gets the same numbers. They compute in float64,
because scores may span more than thirty decades (SynFlow's do).

Randomised masks are those of "Pruning at Initialization - A Sketching Perspective"
(arXiv:2305.17559, Algorithm 1 and Sec. 8). Our choices where the paper is not specific
(docs/methods/mask_randomization.md, docs/decisions.md 21):
- "according to the scores", for a set, means successive sampling: draw, renormalise, draw again,
  without replacement.
- A layer with fewer positive scores than weights to keep keeps all of these; the rest is drawn
  uniformly among its zero scores.
- Sec. 8 uses binary masks, without the factors 1 / (s p). `Sketch` is Algorithm 1 itself: with
  replacement, layer by layer, with or without the factors.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Generator, Tensor

from pruners.selection.ranks import largest

MOST_DRAWS = 2**53  # larger integers are not exact in float64
Scaling = Literal["none", "init"]


@dataclass(frozen=True)
class Top:
    """The k largest scores; ties go to the lower index."""

    tag: ClassVar[str] = "top"
    exact: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor:
        """Bool (n,) with exactly k True, even if fewer scores are positive. `rng` is not used."""
        return largest(scores, k)

    def findings(self, scores: Tensor, k: int) -> dict[str, float]:
        """Return {}: there is nothing to report."""
        return {}


@dataclass(frozen=True)
class Uniform:
    """Any k of the remaining weights, all equally likely.

    This rearranges, within each layer, what another pick would keep.
    """

    tag: ClassVar[str] = "uniform"
    exact: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor:
        """Bool (n,) with exactly k True. Scores matter only by being -inf or not."""
        return _largest(_gumbel(len(scores), rng), scores.cpu() > -torch.inf, k).to(scores.device)

    def findings(self, scores: Tensor, k: int) -> dict[str, float]:
        """Return {}: there is nothing to report."""
        return {}


@dataclass(frozen=True)
class Proportional:
    """k draws without replacement, in proportion to the remaining scores (Plackett-Luce).

    Each draw takes a weight with probability score / sum of the remaining scores. The result is
    computed as the k largest of gamma log s + Gumbel noise, which has the same distribution.
    torch.multinomial is not used: it rejects more than 2**24 categories.

    Args:
        gamma: probabilities follow score ** gamma. Default 1, the paper's; 0 equals `uniform`, and
            large values approach `top`.
    """

    tag: ClassVar[str] = "proportional"
    gamma: float = 1.0
    exact: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(
                f"pick.gamma={self.gamma} must be 0 or more, and finite: 1 follows the scores, 0"
                " ignores them, large values tend to pick=top"
            )

    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor:
        """Bool (n,) with exactly k True, independent of the scores' scale.

        Raises:
            ValueError: a score is negative.
        """
        given = _probable(scores, "proportional")
        positive = given > 0
        keys = torch.where(positive, self.gamma * given.log(), 0.0) + _gumbel(len(given), rng)
        # Zero scores are drawn only when no positive score is left; with gamma=0 they are not
        # special, since 0 ** 0 is 1.
        first = positive.int() if self.gamma else torch.zeros(len(given), dtype=torch.int)
        return _largest(keys, first + (given > -torch.inf).int(), k).to(scores.device)

    def findings(self, scores: Tensor, k: int) -> dict[str, float]:
        """Number of zero-score weights kept because too few scores were positive."""
        return {"zero_scores_kept": max(0, k - int((scores > 0).sum())) if self.gamma else 0}


@dataclass(frozen=True)
class Sketch:
    """Algorithm 1: s independent draws with replacement from p = score / sum.

    m_i = c_i / (s p_i), where c_i is the number of times i was drawn. The number of distinct
    weights drawn is random. s is chosen so that the expected number, the sum of 1 - (1 - p_i)^s, is
    nearest to k. A layer that has to keep all its positive scores, or more, keeps exactly these
    with the factor 1: the limit of infinitely many draws.

    Args:
        scaling: `none` keeps the mask binary, as in the paper's experiments; `init` multiplies the
            weights from which training starts by m, once.
    """

    tag: ClassVar[str] = "sketch"
    scaling: Scaling = "none"
    exact: ClassVar[bool] = False
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.scaling not in get_args(Scaling):
            raise ValueError(
                f"pick.scaling={self.scaling!r} must be one of {', '.join(get_args(Scaling))}"
            )

    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor:
        """(n,): bool for scaling=none, else m in float64; k non-zero entries are expected.

        Raises:
            ValueError: a score is negative.
        """
        p = self._probabilities(scores)
        if k >= int((p > 0).sum()):
            m = (p > 0).double()
        else:
            draws = draws_for(p, k)
            m = draw_counts(draws, p, rng) / (max(draws, 1) * p.where(p > 0, 1.0))
        return (m if self.scaling == "init" else m > 0).to(scores.device)

    def findings(self, scores: Tensor, k: int) -> dict[str, float]:
        """Expected number of kept weights, and the number of draws."""
        p = self._probabilities(scores)
        positive = int((p > 0).sum())
        draws = draws_for(p, k) if k < positive else 0
        return {
            "expected_kept": expected_support(p, draws) if k < positive else positive,
            "draws": draws,
        }

    @staticmethod
    def _probabilities(scores: Tensor) -> Tensor:
        given = _probable(scores, "sketch").clamp(min=0)  # pruned weights are never drawn
        most = given.max() if len(given) else 0
        # Divided twice, because the sum of the scores may overflow.
        return given / most / (given / most).sum() if most > 0 else given


def expected_support(p: Tensor, draws: int) -> float:
    """Expected number of distinct entries in `draws` independent draws from `p` (n,).

    It equals the sum of 1 - (1 - p_i)^draws.
    """
    return float(-torch.expm1(draws * torch.log1p(-p[p > 0])).sum()) if draws else 0.0


def draws_for(p: Tensor, k: int) -> int:
    """Number of draws from `p` (n,) whose expected support is nearest to `k`, by bisection.

    It is at most 2**53, which is reached when some entries of p are almost zero.
    """
    few, many = k, max(k, 1)  # the support is at most the number of draws
    while expected_support(p, many) < k and many < MOST_DRAWS:
        few, many = many, min(2 * many, MOST_DRAWS)
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if expected_support(p, middle) < k else (few, middle)
    return min((few, many), key=lambda draws: abs(expected_support(p, draws) - k))


def _probable(scores: Tensor, pick: str) -> Tensor:
    """Scores in float64 on the CPU, checked to be non-negative or -inf.

    Raises:
        ValueError: a score is negative.
    """
    given = scores.detach().cpu().double()
    negative = given[(given < 0) & (given > -torch.inf)]
    if len(negative):
        raise ValueError(
            f"pick={pick} uses scores as probabilities, but {len(negative):,} are negative (the"
            f" lowest is {float(negative.min()):g}): map a score of both signs to non-negative ones"
            " (method.score.map, where the method has it), or take pick=top or pick=uniform"
        )
    return given


def _gumbel(n: int, rng: Generator) -> Tensor:
    """Independent standard Gumbel noise (n,).

    It is the negative logarithm of an exponential variable, which is computed from U in [0, 1).
    """
    return -torch.log(-torch.log1p(-torch.rand(n, generator=rng, dtype=torch.float64)))


def _largest(keys: Tensor, rank: Tensor, k: int) -> Tensor:
    """Bool (n,): the k entries of highest rank, and of largest key among equal ranks."""
    order = torch.sort(keys, descending=True, stable=True).indices
    order = order[torch.sort(rank[order].int(), descending=True, stable=True).indices]
    kept = torch.zeros(len(keys), dtype=torch.bool)
    kept[order[:k]] = True
    return kept


def draw_counts(draws: int, p: Tensor, rng: Generator) -> Tensor:
    """Number of times that `draws` draws from `p` (n,) hit each entry, in float64.

    The draws are independent. The running time does not grow with their number.
    """
    seed = int(torch.randint(2**62, (1,), generator=rng))
    # Rising order: NumPy subtracts processed probabilities from 1, and small ones after large ones
    # would be lost.
    order = torch.sort(p, stable=True).indices
    counts = torch.zeros_like(p)
    counts[order] = torch.from_numpy(
        np.random.default_rng(seed).multinomial(draws, p[order].numpy())
    ).double()
    return counts
