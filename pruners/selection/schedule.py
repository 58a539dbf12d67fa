"""Densities of the pruning rounds: the option group `schedule`.

Methods that train between rounds also use these schedules.

A schedule is `(density) -> densities`, decreasing to `density` (for `Levels` with last=nearest: to
the level nearest to it).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

RoundCounts = Literal["nearest", "authors"]
MOST_TRAININGS = 1_000  # rounds that train; the longest published chain has 44
MOST_ROUNDS = 100_000  # rounds that only score


@dataclass(frozen=True)
class Once:
    """One-shot pruning: a single round."""

    tag: ClassVar[str] = "once"

    def __call__(self, density: float) -> list[float]:
        """[density]."""
        return [density]


@dataclass(frozen=True)
class Levels:
    """Iterative pruning: every level keeps the same share of what is left (docs/methods/imp.md).

    Args:
        keep: that share. Default 0.8 (docs/decisions.md 23); the IMC paper's tables follow 0.9.
        last: `exact` sets the last level to the requested density; `nearest` ends at the level
            nearest to it, which then is the density reached.
    """

    tag: ClassVar[str] = "levels"
    keep: float = 0.8
    last: Literal["exact", "nearest"] = "exact"

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ValueError(
                f"method.keep={self.keep:g} must be between 0 and 1: the share of the remaining"
                " weights that a level keeps"
            )

    def __call__(self, density: float) -> list[float]:
        """keep, keep^2, ... down to `density`; at least one level.

        Raises:
            ValueError: that takes too many levels.
        """
        rounds = math.ceil(math.log(density) / math.log(self.keep))
        if rounds > MOST_TRAININGS:
            raise ValueError(
                f"method.keep={self.keep} takes {rounds:,} rounds, each with a training, to"
                f" density={density:g}: at most {MOST_TRAININGS:,} are accepted, so take a lower"
                " method.keep"
            )
        levels = [self.keep]
        while levels[-1] > density * (1 + 1e-9):
            # 0.8**2 is 0.6400000000000001; rounding makes the density 0.64 match that level.
            levels.append(float(f"{self.keep ** (len(levels) + 1):.12g}"))
        if self.last == "exact":
            return [*levels[:-1], density]
        above, below = [1.0, *levels][-2:]
        return levels[:-1] if len(levels) > 1 and above - density < density - below else levels


@dataclass(frozen=True)
class FrontLoaded:
    """Flow&Prune's rounds: n d / (n d + k (1 - d)) of the weights remain after round k of n.

    The first rounds prune the most weights (docs/methods/flow_prune.md).

    Args:
        rounds: n. Default 25: the authors' README; their paper also uses 1 and 5.
    """

    tag: ClassVar[str] = "front_loaded"
    rounds: int = 25

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= MOST_TRAININGS:
            raise ValueError(
                f"method.rounds={self.rounds} must be at least 1, and at most"
                f" {MOST_TRAININGS:,}: epochs that end with pruning (train.scale multiplies them)"
            )

    def __call__(self, density: float) -> list[float]:
        """The densities after each round."""
        n = self.rounds
        return [n * density / (n * density + k * (1 - density)) for k in range(1, n)] + [density]


@dataclass(frozen=True)
class Again:
    """The rounds after the first of a method that prunes only after the last one.

    Args:
        rounds_in_all: with the first, which is a stage of its own. Default 1: no further round.
    """

    tag: ClassVar[str] = "again"
    needs_density: ClassVar[bool] = False
    rounds_in_all: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.rounds_in_all <= MOST_TRAININGS:
            raise ValueError(
                f"method.rounds={self.rounds_in_all} must be at least 1, and at most"
                f" {MOST_TRAININGS:,}: trainings of the search"
            )

    def __call__(self, density: float | None) -> list[None]:
        """None, no density, for each further round."""
        return [None] * (self.rounds_in_all - 1)


@dataclass(frozen=True)
class Exponential:
    """density ** (i / iterations) for i = 1 ... iterations (SynFlow; docs/methods/synflow.md).

    Each round keeps the same share of the remaining weights.

    Args:
        iterations: rounds. Default 100: SynFlow's published runs (its authors' command line has 1).
        counts: weights that a round of density d keeps of N. `nearest`: round(d N). `authors`: N -
            int((1 - d) N), as in SynFlow's code, in all rounds but the last, which keeps round(d N)
            (docs/decisions.md 4). conf/schedule/exponential.yaml states `authors`. The default
            here, which run ids leave out, stays that of the runs from before.
    """

    tag: ClassVar[str] = "exponential"
    iterations: int = 100
    counts: RoundCounts = "nearest"

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.iterations <= MOST_ROUNDS:
            problems.append(
                f"schedule.iterations={self.iterations} must be at least 1, and at most"
                f" {MOST_ROUNDS:,}: rounds of pruning, 100 for SynFlow"
            )
        if self.counts not in get_args(RoundCounts):
            problems.append(
                f"schedule.counts={self.counts!r} must be one of {', '.join(get_args(RoundCounts))}"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, density: float) -> list[float]:
        """`iterations` densities, decreasing; the last one is `density` itself."""
        return [density ** (i / self.iterations) for i in range(1, self.iterations + 1)]

    def for_weights(self, density: float, prunable: int) -> list[float]:
        """The densities of the rounds of a net with `prunable` weights.

        With counts=authors, those before the last are whole numbers of weights over `prunable`.
        """
        densities = self(density)
        if self.counts == "nearest":
            return densities
        kept = [prunable - int((1 - d) * prunable) for d in densities[:-1]]
        return [count / prunable for count in kept] + densities[-1:]
