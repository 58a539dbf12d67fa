"""Points that were measured with several seeds, and which of these are pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.stats.estimates import EQUAL, Array, Estimates, satterthwaite

Kind = tuple[tuple[str, str], ...]  # of machine and versions: what is stated, and its text
FEWEST = 3  # pairs that are compared where other seeds are none
DIFFERENCE = np.array([[1.0, -1.0]])  # the first of two points minus the other


class Measured(NamedTuple):
    """A number of a seed.

    Args:
        kind: of the machine and versions that computed it; numbers of equal seed and equal kind
            are pairs.
    """

    value: float
    kind: Kind = ()


Sample = Mapping[int, Measured]  # seed -> its number


@dataclass(frozen=True)
class Pairing:
    """How the seeds of an experiment were used for some contrasts.

    Args:
        seeds: seeds that have all the points.
        unlike: those that are no pairs for some contrast.
        left_out: of these, how many a contrast that was compared in pairs left out, at most.
        contrasts: number of contrasts.
        unpaired: number of contrasts whose sides were compared as two samples.
        kinds: the kinds of the seeds that are no pairs.
    """

    seeds: int
    unlike: int
    left_out: int
    contrasts: int
    unpaired: int
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class BySeed:
    """Points measured with the same seeds; a seed gives one number for each contrast.

    Nothing is assumed about the correlation of the points of a seed. A contrast has two sides, the
    points with positive and those with negative weights. Where both sides of a seed are of the same
    kinds, the seed is a pair, and its number is the contrast. If too few seeds are pairs, the sides
    are two samples, compared by Welch's t: a positive correlation then makes the estimate more
    certain than stated.

    Args:
        values: shape (n, k): n seeds, k points.
        floor: variances of the rounding of the points, shape (k,). Numbers that are counted, such
            as accuracies, can agree by chance; the variance of a contrast is at least that of its
            rounding.
        kinds: the kind of each number, n rows of k; None if all are of one kind.
        missing: number of further seeds, which some of the points lack.
    """

    values: Array
    floor: Array
    kinds: Sequence[Sequence[Kind]] | None = None
    missing: int = 0

    @cached_property
    def means(self) -> Array:
        """Means over the seeds, shape (k,)."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def size(self) -> int:
        """The number of seeds."""
        return len(self.values)

    def contrasts(self, weights: Array) -> Estimates:
        """Estimate contrasts by Student's t over seeds; `weights` has the shape (m, k)."""
        pairs = self.pairs(weights)
        if pairs.all():
            return _over_seeds(self.values, weights, self.floor)
        found = [self._contrast(w[None], there) for w, there in zip(weights, pairs, strict=True)]
        return Estimates(
            np.concatenate([each.value for each in found]),
            np.concatenate([each.error for each in found]),
            np.concatenate([each.freedom for each in found]),
        )

    def pairs(self, weights: Array) -> NDArray[np.bool_]:
        """Which seeds are pairs for each contrast, shape (m, n)."""
        one_kind = all(len(set(row)) == 1 for row in self.kinds or ())
        if one_kind:
            return np.ones((len(weights), len(self.values)), dtype=bool)
        return np.array([[_alike(row, w) for row in self.kinds or ()] for w in weights])

    def pairing(self, weights: Array) -> Pairing:
        """How the seeds were used for contrasts; `weights` has the shape (m, k)."""
        pairs = self.pairs(weights)
        compared = [there for there in pairs if enough(there)]
        whole = np.all(pairs, axis=0).tolist()
        unlike = [row for row, paired in zip(self.kinds or (), whole, strict=False) if not paired]
        return Pairing(
            seeds=len(self.values),
            unlike=len(unlike),
            left_out=max((int((~there).sum()) for there in compared), default=0),
            contrasts=len(pairs),
            unpaired=len(pairs) - len(compared),
            kinds=tuple(sorted({kind for row in unlike for kind in row})),
        )

    def _contrast(self, weights: Array, pairs: NDArray[np.bool_]) -> Estimates:
        """Estimate one contrast; `weights` has the shape (1, k)."""
        if enough(pairs):
            return _over_seeds(self.values[pairs], weights, self.floor)
        sides = [
            _over_seeds(self.values, side, self.floor)
            for side in (np.maximum(weights, 0), np.minimum(weights, 0))
        ]
        variances = np.array([side.error**2 for side in sides])
        freedom = np.array([side.freedom for side in sides])
        return Estimates(
            np.sum([side.value for side in sides], axis=0),
            np.sqrt(variances.sum(axis=0)),
            satterthwaite(variances, freedom),
        )

    def misfit(self, design: Array, towards: Array) -> float:
        """p-value of the lack of fit of `design` (k, q) in the direction of `towards` (k,).

        The direction is made orthogonal to the design; its component is zero if the design fits.
        There are too few seeds for a test in all directions.
        """
        rest = towards - design @ np.linalg.lstsq(design, towards, rcond=None)[0]
        found = self.contrasts(rest[None])
        return float(min(1.0, 2 * min(found.below(0)[0], found.above(0)[0])))

    def logarithms(self) -> "BySeed | None":
        """The logarithms of the points; None unless all are positive."""
        if not (self.values > 0).all():
            return None
        floor = self.floor / np.maximum(self.means, 1e-300) ** 2
        return BySeed(np.log(self.values), floor, self.kinds, self.missing)


def of_samples(samples: Sequence[Sample], floor: Sequence[float]) -> BySeed:
    """Points of several samples, over the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(sample) for sample in samples)))
    values = [[sample[seed].value for sample in samples] for seed in seeds]
    return BySeed(
        np.array(values, dtype=float).reshape(len(seeds), len(samples)),
        np.array(floor, dtype=float),
        [[sample[seed].kind for sample in samples] for seed in seeds],
        len(set().union(*samples)) - len(seeds),
    )


def difference(one: Sample, other: Sample, rounding: float) -> BySeed:
    """Two samples whose contrast DIFFERENCE is their difference.

    Args:
        rounding: variance of the rounding of a number.
    """
    return of_samples([one, other], [rounding, rounding])


def enough(pairs: NDArray[np.bool_]) -> bool:
    """Whether seeds are compared in pairs: all are pairs, or most of them and at least three."""
    there = int(pairs.sum())
    return there == len(pairs) or (there >= FEWEST and 2 * there > len(pairs))


def _alike(kinds: Sequence[Kind], weights: Array) -> bool:
    """Whether the two sides of a seed are of the same kinds; a contrast can have one side only."""
    none = EQUAL * np.abs(weights).max()
    sides = [
        {kind for kind, weight in zip(kinds, sign * weights, strict=True) if weight > none}
        for sign in (1, -1)
    ]
    return not all(sides) or sides[0] == sides[1]


def _over_seeds(values: Array, weights: Array, floor: Array) -> Estimates:
    """Student's t over seeds; `values`: (n, k), `weights`: (m, k)."""
    found = values @ weights.T
    n = len(found)
    value = found.mean(axis=0) if n else np.full(len(weights), np.nan)
    if n < 2:
        unknown = np.full(len(weights), np.nan)
        return Estimates(value, unknown, np.zeros(len(weights)))
    spread = found.std(axis=0, ddof=1)
    spread = np.where(spread > EQUAL * np.abs(found).max(axis=0), spread, 0.0)
    error = np.sqrt(np.maximum(spread**2, weights**2 @ floor) / n)
    return Estimates(value, error, np.full(len(weights), n - 1.0))
