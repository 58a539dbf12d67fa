"""Expected overlap of a mask with that of endless sampling, for scores that are means.

docs/mask_overlap.md. It prunes a net as the prune stage does, with the same images and draws, and
computes the score again on parts of the images, or on further images if the score does not add up
over images. Their spread gives each score's sampling error
(pruners/selection/parts.py) and with it a posterior of the exact scores
(pruners/selection/posterior.py). Masks of scores from the posterior are what the exact mask may be.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar

import torch
from torch import Generator, nn

from pruners.base import STANDARD_ERROR, Batch, Finding, Masks, Measurement, Scores, Task
from pruners.curvature.leverage import OVERLAP, expected_overlap
from pruners.search.init import top
from pruners.selection.parts import (
    GROUPS,
    Parts,
    Sampled,
    Spread,
    deviation,
    further_samples,
    in_parts,
    united,
)
from pruners.selection.pick import Top
from pruners.selection.posterior import Posterior
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.source import Balanced, Examples


@dataclass(frozen=True)
class MaskOverlap:
    """Measure stage: `mask_overlap` of a pruner by scores.

    Args:
        pruner: that of the prune stage, whose random draws this stage must repeat.
        density: to which it prunes.
        parts: number of parts of the images, or of further samples, if there are as many. None: the
            stage is left out.
    """

    tag: ClassVar[str] = "mask_overlap"
    pruner: ScorePruner
    density: float | None = None
    parts: int | None = None

    def __post_init__(self) -> None:
        if self.density is not None and not 0 < self.density <= 1:
            raise ValueError(f"method.mask_overlap.density={self.density:g} must be in (0, 1]")
        if self.parts is None:
            return
        start = f"method.overlap={self.parts}"
        problems = []
        if self.parts < GROUPS:
            problems.append(f"{start} must be at least {GROUPS}: a spread needs parts; 16 is usual")
        score = self.pruner.score
        if not isinstance(score, Sampled) or score.additive is None:
            problems.append(
                f"{start}: this score of {type(score).__name__} is no mean over images, so it has"
                " no sampling error that parts of them show; leave it out"
            )
        elif not getattr(self.pruner.source, "labelled", True):
            problems.append(
                f"{start}: source={type(self.pruner.source).__name__.lower()} is one image, which"
                " has no parts; leave it out, or take source=train"
            )
        if not isinstance(self.pruner.pick, Top):
            problems.append(
                f"{start} needs pick=top: the overlap of a random mask is that of its draw"
            )
        if len(self.pruner.schedule(0.5)) > 1:
            problems.append(
                f"{start} needs schedule=once: what a round prunes changes the scores of the next"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return `mask_overlap`, its standard error, and the number of parts; no series.

        The standard error contains that of the simulation and, by the jackknife over four groups of
        parts, that of the scores' variances. The overlap is None if there are fewer than four
        parts or samples.
        """
        masks = self.pruner.pruned(model, masks)
        whole, spreads, count = self._measured(model, masks, task)
        if count < GROUPS:
            return Measurement(report={OVERLAP: None, f"{OVERLAP}_parts": count})

        def overlap(spread: Spread) -> dict[str, Finding]:
            variance = spread.variance(count if self._score.additive else 1)
            posteriors = {
                name: Posterior.of(s[masks[name]], variance[name][masks[name]], spread.count)
                for name, s in whole.items()
            }
            return self._overlap(whole, masks, posteriors, task.rng)

        report = overlap(united(spreads))
        others = [
            overlap(united(s for s in spreads if s is not left_out))[OVERLAP]
            for left_out in spreads
        ]
        values = torch.tensor(others, dtype=torch.float64)
        groups = (GROUPS - 1) ** 2 / GROUPS * float(values.var())
        simulation = report[OVERLAP + STANDARD_ERROR]
        assert isinstance(simulation, float)
        report[OVERLAP + STANDARD_ERROR] = sqrt(simulation**2 + groups)
        return Measurement(report={**report, f"{OVERLAP}_parts": count})

    @property
    def _score(self) -> Sampled:
        assert isinstance(self.pruner.score, Sampled)
        return self.pruner.score

    def _measured(
        self, model: nn.Module, masks: Masks, task: Task
    ) -> tuple[Scores, list[Spread], int]:
        """The scores of all images before their last step, the parts' spreads, and their number."""
        task = replace(task, density=self.density)
        examples = Examples(self.pruner.source, task, next(model.parameters()).device)
        score, start = self._score, task.rng.get_state()

        def signed(batches: Iterable[Batch]) -> Scores:
            return score.signed(model, masks, batches, task.loss, task.rng, task.memory)

        whole = signed(examples)
        spreads = [Spread() for _ in range(GROUPS)]
        for number, batches in enumerate(self._batches(examples)):
            if not score.additive:  # draws that are the same for all samples, such as weights
                task.rng.set_state(start)
            spreads[number % GROUPS].add(deviation(signed(batches), whole))
            task.progress(number + 1, self.parts or 0, "parts of the images")
        return whole, spreads, sum(spread.count for spread in spreads)

    def _batches(self, examples: Examples) -> Iterator[list[Batch]]:
        """The batches of each part, or of each further sample."""
        if self._score.additive:
            by_class = isinstance(self.pruner.source, Balanced)
            parts = Parts(lambda: self._score.read(examples), self.parts or 0, by_class)
            return in_parts(parts)
        return further_samples(examples, self._score.read, self.parts or 0)

    def _overlap(
        self, whole: Scores, masks: Masks, posteriors: dict[str, Posterior], rng: Generator
    ) -> dict[str, Finding]:
        """The expected overlap, with the layers' posteriors of unpruned weights."""

        def drawn() -> Masks:
            scores = {
                name: torch.zeros_like(whole[name], dtype=torch.float64).masked_scatter(
                    masks[name], posterior.draw(rng).to(whole[name].device)
                )
                for name, posterior in posteriors.items()
            }
            return self._masks(scores, masks)

        return expected_overlap(self._masks(whole, masks), drawn)

    def _masks(self, signed: Scores, masks: Masks) -> Masks:
        """The masks of the pruner by scores before their last step."""
        assert self.density is not None
        scores = {
            name: s.masked_fill(~masks[name], -torch.inf)
            for name, s in self._score.ranked(signed, masks).items()
        }
        return top(scores, self.pruner.allocate(scores, masks, self.density), scores)
