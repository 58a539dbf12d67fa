"""Overlap of a mask with that of endless sampling, from prunings with further images.

For schedules of many rounds, in which what a round prunes changes the scores of the next, and for
scores of which nothing is known but that they read images. The whole pruning is repeated from the
same net and with the same random draws, but with other images: K times with as many as before, and
once with the images of these K samples together.

The model is that of pruners/analysis/split_half.py: the scores that decide have ranks as if they
were normal, and noise of the variance nu, in units of the signal. A mask and that of K times the
images have the correlation rho = 1 / sqrt((1 + nu) (1 + nu / K)), which their overlap gives. The
exact mask has 1 / sqrt(1 + nu). So only the last part, from K times the images to endlessly many,
is extrapolated.

The overlaps of the masks of K + 1 equal samples give nu by themselves, since they have
rho = 1 / (1 + nu). They overstate it where noise differs much between weights, because the largest
noise repeats. How much their result differs is the change that is reported (docs/mask_overlap.md).
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import combinations, islice
from math import inf, sqrt
from statistics import fmean
from typing import Any

from torch import nn

from pruners.analysis.split_half import TOLERANCE, noise, overlap_at, overlap_of_masks
from pruners.base import CHANGE, CONVERGED, STANDARD_ERROR, Batch, Finding, Masks, Task, density
from pruners.curvature.leverage import OVERLAP
from pruners.selection.score_pruner import ScorePruner

Source = Callable[[Task], Iterable[Batch]]


@dataclass
class Part:
    """A source that gives some of the batches of another one.

    Args:
        first: number of batches that are left out.
        count: number of batches; None = all that follow.
        read: how many of them the longest pass has read so far.
    """

    source: Source
    first: int = 0
    count: int | None = None
    read: int = field(default=0, compare=False)

    def __call__(self, task: Task) -> Iterator[Batch]:
        """The batches."""
        last = None if self.count is None else self.first + self.count
        for number, batch in enumerate(islice(self.source(task), self.first, last), start=1):
            self.read = max(self.read, number)
            yield batch


@dataclass
class Prunings:
    """Prunings of one net with different images.

    Args:
        masks: of the net before the pruning.
        task: of the stage that prunes, with its density.
        done: number of prunings so far, for the progress.
    """

    pruner: ScorePruner
    model: nn.Module
    masks: Masks
    task: Task
    done: int = 0

    def measured(self, most: int) -> dict[str, Finding]:
        """`mask_overlap` with its errors and the number of further samples, at most `most`.

        With fewer than two of them, there is only their number.
        """
        assert self.pruner.source is not None
        # the first mask, those of further samples, and that of all of these together
        start, total = self.task.rng.get_state(), most + 2

        def mask(part: Part, score: Any) -> Masks:
            self.task.rng.set_state(start)
            pruner = replace(self.pruner, score=score, source=part)
            found = pruner(copy.deepcopy(self.model), dict(self.masks), quiet).masks
            self.done += 1
            self.task.progress(self.done, total, "prunings with other images")
            return found

        quiet = replace(self.task, progress=lambda done, total, what: None)
        source, score = self.pruner.source, self.pruner.score
        whole = Part(source)
        found, size = [mask(whole, score)], whole.read
        samples = self._samples(source, size, most)
        if samples < 2:
            return {f"{OVERLAP}_parts": samples}
        found += [mask(Part(source, size * k, size), score) for k in range(1, samples + 1)]
        longer = _with_batches(score, samples)
        pooled = mask(Part(source, size, size * samples), longer) if longer is not None else None
        return {**from_samples(found, pooled), f"{OVERLAP}_parts": samples}

    def _samples(self, source: Source, size: int, most: int) -> int:
        """Number of further samples with as many batches and images as the first, up to `most`."""
        sizes = [len(y) for _, y in islice(source(self.task), size * (most + 1))]
        parts = [sizes[size * k : size * (k + 1)] for k in range(1, most + 1)]
        return next((k for k, part in enumerate(parts) if part != sizes[:size]), most)


def _with_batches(score: Any, times: int) -> Any:
    """The score that reads so many times as many batches; None if it has no such option."""
    batches = getattr(score, "batches", None)
    if not is_dataclass(score) or not isinstance(batches, int):
        return None
    return replace(score, batches=batches * times)  # type: ignore[type-var]


def from_samples(masks: list[Masks], pooled: Masks | None) -> dict[str, Finding]:
    """The expected overlap of the first mask with that of endless sampling, and its errors.

    Args:
        masks: of independent samples of the same size, at least three.
        pooled: the mask of the images of all samples but the first; None if it is not known.

    Returns:
        The overlap; the jackknife's standard error over the samples; as its change, how much more
        it would be by the overlaps of equal samples, and whether that is within the tolerance.
        Without `pooled`, it is the overlap by equal samples, which nothing checks.
    """
    kept, count = density(masks[0]), len(masks)
    pairs = {(i, j): overlap_of_masks(masks[i], masks[j]) for i, j in combinations(range(count), 2)}

    def by_pairs(left_out: int | None = None) -> float:
        return with_exact(
            noise(fmean(o for pair, o in pairs.items() if left_out not in pair), kept), kept
        )

    others = [by_pairs(i) for i in range(count)]
    variance = (count - 1) / count * sum((other - fmean(others)) ** 2 for other in others)
    plain, error = by_pairs(), sqrt(variance)
    if pooled is None:
        return {OVERLAP: plain, OVERLAP + STANDARD_ERROR: error}
    overlap = with_exact(noise_of_longer(overlap_of_masks(masks[0], pooled), kept, count - 1), kept)
    return {
        OVERLAP: overlap,
        OVERLAP + STANDARD_ERROR: error,
        OVERLAP + CHANGE: plain - overlap,
        OVERLAP + CONVERGED: int(abs(plain - overlap) <= TOLERANCE),
    }


def with_exact(nu: float, kept: float) -> float:
    """The overlap with the exact mask if the noise has the variance nu, in units of the signal."""
    return overlap_at((1 + nu) ** -0.5, kept)


def noise_of_longer(overlap: float, kept: float, times: int) -> float:
    """nu of a mask whose overlap with that of so many times the images is `overlap`.

    It solves (1 + nu) (1 + nu / times) = 1 / rho^2; infinite for an overlap of chance or less.
    """
    product = (1 + noise(overlap, kept)) ** 2  # 1 / rho^2
    half = (times + 1) / 2
    return sqrt(half**2 + times * (product - 1)) - half if product < inf else inf
