"""Sampling error of a score that is a function of a mean over examples, from their spread.

A score that adds up over examples is computed on K parts of these by itself; the variance of the
mean over all is S^2 / K, with S^2 the variance between the parts. Any other score (batch
statistics, a product of two means) depends on the size of its sample. It is computed on K further
samples of the same size, and its variance is S^2, with S^2 the variance between these. (The
jackknife would need no further examples, but it doubles the variance of a product of two means:
Efron & Stein, Annals of Statistics 1981; docs/mask_overlap.md.)

A common factor of all scores changes no rank. Each part's scores t are therefore compared with the
scores x of all examples up to a factor: t - x <t, x> / <x, x>. Each layer of a further sample is
first brought to the norm that it has in x: a sample with large gradients has large scores and large
errors, and its errors would otherwise count for more than those of x.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from pruners.base import Batch, LossFn, Masks, Scores
from pruners.team import Team

GROUPS = 4  # of parts: how far the variance depends on which parts there are


@runtime_checkable
class Sampled(Protocol):
    """A score that is a function of a mean over examples."""

    # None: the spread between parts is not that of the whole
    @property
    def additive(self) -> bool | None: ...  # the sum over parts is the whole

    @property
    def positive(self) -> bool: ...  # it adds up terms >= 0, of which a few may be most of it

    def read(self, batches: Iterable[Batch]) -> Iterator[Batch]: ...  # the examples that it uses

    # before the last step: the mean itself, whose error has no bias
    def signed(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float,
        team: Team,
    ) -> Scores: ...

    def ranked(self, signed: Scores, masks: Masks) -> Scores: ...  # the last step


@dataclass(frozen=True)
class Parts:
    """Examples in parts of nearly equal size.

    Whole batches go round the parts if there are enough of them, so that batches stay as they are;
    else single images do.

    Args:
        batches: can be read several times.
        most: number of parts, if there are as many batches or images.
        by_class: the images of each class go round the parts, as in a sample with equally many
            images of each class.
    """

    batches: Callable[[], Iterator[Batch]]
    most: int
    by_class: bool = False

    @cached_property
    def whole(self) -> bool:
        """Whether parts are whole batches."""
        return sum(1 for _ in self.batches()) >= self.most

    @cached_property
    def count(self) -> int:
        """Number of parts, none of them empty."""
        return 1 + max((int(part.max()) for _, part in self.numbered()), default=-1)

    def numbered(self) -> Iterator[tuple[Batch, Tensor]]:
        """Each batch, with the part (B,) that each of its images belongs to."""
        seen: dict[int, int] = {}
        for number, (x, y) in enumerate(self.batches()):
            places = []
            for label in y.tolist():
                stratum = int(label) if self.by_class else 0
                places.append(number if self.whole else seen.get(stratum, 0))
                seen[stratum] = seen.get(stratum, 0) + 1
            yield (x, y), torch.tensor(places, device=y.device) % self.most


def in_parts(parts: Parts) -> Iterator[list[Batch]]:
    """The batches of each part."""
    for part in range(parts.count):
        cut = ((batch, numbers == part) for batch, numbers in parts.numbered())
        yield [(x[own], y[own]) for (x, y), own in cut if own.any()]


def further_samples(
    batches: Iterable[Batch], read: Callable[[Iterable[Batch]], Iterator[Batch]], most: int
) -> Iterator[list[Batch]]:
    """Up to `most` samples of as many batches and images as the first; that one is left out.

    Args:
        read: a sample from the beginning of `batches`.
    """
    sizes = [len(y) for _, y in read(batches)]
    rest = islice(batches, len(sizes), None)
    for _ in range(most):
        sample = list(islice(rest, len(sizes)))
        if [len(y) for _, y in sample] != sizes:
            return
        yield sample


@dataclass
class Spread:
    """Sums of deviations, from which their variance follows, and of the factors of the whole."""

    count: int = 0
    factors: float = 0.0
    sums: Scores = field(default_factory=dict)
    squares: Scores = field(default_factory=dict)

    def add(self, part: Scores, whole: Scores) -> None:
        """Add a part by its deviation."""
        factor, deviation = deviation_of(part, whole)
        squares = {name: d**2 for name, d in deviation.items()}
        self.merge(Spread(1, factor, deviation, squares))

    def merge(self, other: "Spread") -> None:
        """Add the parts of another one."""
        self.count += other.count
        self.factors += other.factors
        for mine, theirs in ((self.sums, other.sums), (self.squares, other.squares)):
            for name, t in theirs.items():
                mine[name] = mine.get(name, 0) + t

    def mean(self, whole: Scores) -> Scores:
        """Mean scores of the parts."""
        return {
            name: (self.sums[name] + self.factors * w) / self.count for name, w in whole.items()
        }

    def variance(self, parts: int) -> Scores:
        """Variance of the mean of so many; shapes of the scores."""
        factor = 1 / parts / (self.count - 1)
        return {
            name: ((self.squares[name] - total**2 / self.count) * factor).clamp(min=0)
            for name, total in self.sums.items()
        }


def as_large(scores: Scores, whole: Scores) -> Scores:
    """The scores, each layer times the factor that gives it the norm that it has in `whole`."""
    factors = {name: whole[name].norm() / s.norm() for name, s in scores.items()}
    return {name: s * factors[name].nan_to_num(0.0, 0.0) for name, s in scores.items()}


def united(spreads: Iterable[Spread]) -> Spread:
    """The parts of several spreads together."""
    whole = Spread()
    for spread in spreads:
        whole.merge(spread)
    return whole


def deviation_of(part: Scores, whole: Scores) -> tuple[float, Scores]:
    """The factor by which a part's scores are those of all examples, and how they differ then."""
    norm = sum((w.double() ** 2).sum() for w in whole.values())
    along = sum((part[name].double() * w.double()).sum() for name, w in whole.items())
    share = float(along / norm) if norm else 0.0
    return share, {name: part[name] - share * w for name, w in whole.items()}
