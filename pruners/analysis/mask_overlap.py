"""Expected overlap of a mask with that of endless sampling, for scores that are means.

docs/mask_overlap.md. It scores a net as the prune stage does, with the same images and draws, and
again on parts of the images, or on further images if the score does not add up over images. Their
spread gives each score's sampling error (pruners/selection/parts.py) and with it a posterior of the
exact scores (pruners/selection/posterior.py). Masks of scores from the posterior are what the exact
mask may be. A mean of squares has an error of another kind (pruners/analysis/split_half.py). Where
masks are no function of one mean, whole prunings are repeated
(pruners/analysis/whole_prunings.py).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import sqrt
from statistics import fmean
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pruners.analysis.ranking import Ranking, chosen, exact, ranking_of
from pruners.analysis.split_half import (
    HALVES,
    TOLERANCE,
    from_split_halves,
    overlap_of_masks,
)
from pruners.analysis.whole_prunings import Prunings
from pruners.base import (
    CHANGE,
    CONVERGED,
    STANDARD_ERROR,
    Batch,
    Finding,
    Masks,
    Measurement,
    Scores,
    Task,
)
from pruners.curvature.leverage import OVERLAP, expected_overlap
from pruners.search.popup import EdgePopup, SrPopup
from pruners.selection.parts import (
    GROUPS,
    Parts,
    Sampled,
    Spread,
    as_large,
    further_samples,
    in_parts,
    united,
)
from pruners.selection.posterior import Posterior
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.source import Balanced, Examples

AUTO = "auto"
USUAL = 16  # parts of the images, or further samples of them
USUAL_PRUNINGS = GROUPS  # with further images, each of which costs a whole schedule
SIMULATIONS = GROUPS + 2  # of the exact mask: by all parts, without each group, and for the check
ENOUGH = 0.001  # standard error at which a simulation ends


@dataclass(frozen=True)
class MaskOverlap:
    """Measure stage: `mask_overlap` of a pruner by scores, or of the first mask of a search.

    Args:
        pruner: that of the prune or search stage, whose random draws this stage must repeat.
        density: to which it prunes.
        parts: number of parts of the images, or of further samples, if there are as many. `auto`:
            the usual number, and the stage is left out where nothing is sampled or the overlap is
            not defined. None: the stage is left out.
        optional: whether `parts` was `auto`.
    """

    tag: ClassVar[str] = "mask_overlap"
    pruner: ScorePruner | SrPopup | EdgePopup
    density: float | None = None
    parts: int | Literal["auto"] | None = "auto"
    optional: bool = field(default=False, init=False, compare=False)

    def __post_init__(self) -> None:
        if self.density is not None and not 0 < self.density <= 1:
            raise ValueError(f"method.mask_overlap.density={self.density:g} must be in (0, 1]")
        if self.parts == AUTO:  # the stage has the cache key of the same number
            object.__setattr__(self, "optional", True)
            object.__setattr__(self, "parts", USUAL if self.by_scores else USUAL_PRUNINGS)
        if self.parts is None or self.optional:
            return
        if isinstance(self.parts, str):
            raise ValueError(f"method.overlap={self.parts}: give a number, {AUTO} or null")
        start = f"method.overlap={self.parts}"
        problems = [f"{start}{problem}" for problem in self._problems()]
        if self.parts < GROUPS:
            problems.append(f"{start} must be at least {GROUPS}: a spread needs parts; 16 is usual")
        if problems:
            raise ValueError("\n".join(problems))

    def _problems(self) -> list[str]:
        """Why the masks have no sampling error that can be measured; [] if they have."""
        ranking = ranking_of(self.pruner)
        problems, score = ranking.problems(), ranking.score
        if exact(ranking):
            return problems
        unknown = isinstance(score, Sampled) and score.additive is None
        if unknown or not score.needs_data:
            problems.append(
                f": this score of {type(score).__name__} is no mean over images, so it has"
                " no sampling error that parts of them show; leave it out"
            )
        elif not getattr(ranking.source, "labelled", True):
            problems.append(
                f": source={type(ranking.source).__name__.lower()} is one image, which"
                " has no parts; leave it out, or take source=train"
            )
        return problems

    @property
    def applies(self) -> bool:
        """`pruners.declared.Optional`."""
        return not self.optional or not (exact(ranking_of(self.pruner)) or self._problems())

    @property
    def by_scores(self) -> bool:
        """Whether one mean over images decides: the score of the only round."""
        ranking = ranking_of(self.pruner)
        return isinstance(ranking.score, Sampled) and (ranking.rounds == 1 or exact(ranking))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return `mask_overlap`, its errors and its check, and the number of parts; no series.

        The overlap is None if there are fewer than four parts or samples, and 1 if the scores
        sample nothing.
        """
        if exact(ranking_of(self.pruner)):
            found: dict[str, Finding] = {OVERLAP: 1.0, OVERLAP + STANDARD_ERROR: 0.0}
            return Measurement(report={**found, f"{OVERLAP}_parts": 0})
        if not self.by_scores:
            assert isinstance(self.pruner, ScorePruner) and isinstance(self.parts, int)
            prunings = Prunings(self.pruner, model, masks, replace(task, density=self.density))
            return Measurement(report={OVERLAP: None, **prunings.measured(self.parts)})
        sample = self.sample(model, masks, task)
        whole, spreads = sample.measured()
        count = sum(spread.count for spread in spreads)
        if count < GROUPS:
            return Measurement(report={OVERLAP: None, f"{OVERLAP}_parts": count})
        if sample.score.positive:
            found = sample.from_halves(whole, spreads)
        else:
            found = sample.from_posterior(whole, spreads, count)
        return Measurement(report={**found, f"{OVERLAP}_parts": count})

    def sample(self, model: nn.Module, masks: Masks, task: Task) -> "Sample":
        """The sample that the masks come from, not yet scored."""
        ranking = ranking_of(self.pruner)
        assert isinstance(ranking.score, Sampled) and self.density is not None
        assert isinstance(self.parts, int)
        layers = ranking.layers(model, masks)
        return Sample(ranking, ranking.score, model, layers, task, self.density, self.parts)


@dataclass
class Sample:
    """A sample of images and its parts, or further samples.

    Args:
        masks: of the layers to prune.
        parts: number of parts or further samples, if there are as many.
        similar: overlaps of the masks with those of further samples, once they are measured.
        simulated: number of simulations of the exact mask so far, for the progress.
    """

    ranking: Ranking
    score: Sampled
    model: nn.Module
    masks: Masks
    task: Task
    density: float
    parts: int
    similar: list[float] = field(default_factory=list)
    simulated: int = 0

    def measured(self) -> tuple[Scores, list[Spread]]:
        """The scores of all images before their last step, and the spreads of groups of parts."""
        task = replace(self.task, density=self.density)
        device = next(self.model.parameters()).device
        examples, start = Examples(self.ranking.source, task, device), task.rng.get_state()
        whole = self._signed(examples)
        ours = self.chosen(whole)
        spreads = [Spread() for _ in range(GROUPS)]
        for number, batches in enumerate(self._batches(examples)):
            if not self.score.additive:  # draws that are the same for all samples, such as weights
                task.rng.set_state(start)
            part = self._signed(batches)
            if not self.score.additive:
                self.similar.append(overlap_of_masks(ours, self.chosen(part)))
                part = as_large(part, whole)
            spreads[number % GROUPS].add(part, whole)
            task.progress(number + 1, self.parts, "parts of the images")
        return whole, spreads

    def _signed(self, batches: Iterable[Batch]) -> Scores:
        task = self.task
        return self.score.signed(
            self.model, self.masks, batches, task.loss, task.rng, task.memory, task.team
        )

    def _batches(self, examples: Examples) -> Iterator[list[Batch]]:
        """The batches of each part, or of each further sample."""
        if self.score.additive:
            by_class = isinstance(self.ranking.source, Balanced)
            return in_parts(Parts(lambda: self.score.read(examples), self.parts, by_class))
        return further_samples(examples, self.score.read, self.parts)

    def chosen(self, signed: Scores) -> Masks:
        """The masks by scores before their last step."""
        scores = self.score.ranked(signed, self.masks)
        return chosen(self.ranking, self.model, scores, self.masks, self.density)

    def from_halves(self, whole: Scores, spreads: list[Spread]) -> dict[str, Finding]:
        """The overlap and its errors, from masks of halves and quarters."""

        def of(*groups: int) -> Masks:
            return self.chosen(united(spreads[g] for g in groups).mean(whole))

        halves = [(of(*a), of(*b)) for a, b in HALVES]
        return from_split_halves([of(g) for g in range(GROUPS)], halves)

    def from_posterior(
        self, whole: Scores, spreads: list[Spread], count: int
    ) -> dict[str, Finding]:
        """The overlap and its errors, from the posterior of the exact scores.

        The standard error contains that of the simulation and, by the jackknife over four groups of
        parts, that of the scores' variances. The check compares the overlap of two samples with
        that which the posterior predicts.
        """
        parts = count if self.score.additive else 1
        report = self._expected(whole, self._draws(whole, united(spreads), parts))
        others = []
        for left_out in spreads:
            rest = united(s for s in spreads if s is not left_out)
            others.append(self._expected(whole, self._draws(whole, rest, parts)))
        values = torch.tensor([other[OVERLAP] for other in others], dtype=torch.float64)
        groups = (GROUPS - 1) ** 2 / GROUPS * float(values.var())
        simulation = report[OVERLAP + STANDARD_ERROR]
        assert isinstance(simulation, float)
        report[OVERLAP + STANDARD_ERROR] = sqrt(simulation**2 + groups)
        change = self._unpredicted(whole, spreads)
        return report | {
            OVERLAP + CHANGE: change,
            OVERLAP + CONVERGED: int(abs(change) <= TOLERANCE),
        }

    def _unpredicted(self, whole: Scores, spreads: list[Spread]) -> float:
        """How much more the masks of two samples overlap in the posterior than they do.

        The samples are two halves of the images, or all of them and a further sample.
        """
        estimate, spread, parts = whole, united(spreads), 1
        if self.score.additive:
            spread, other = united(spreads[:2]), united(spreads[2:])
            estimate, parts = spread.mean(whole), spread.count
            found = overlap_of_masks(self.chosen(estimate), self.chosen(other.mean(whole)))
        else:
            found = fmean(self.similar)
        again = self._draws(estimate, spread, parts, again=True)
        predicted = self._expected(estimate, again)[OVERLAP]
        assert isinstance(predicted, float)
        return predicted - found

    def _expected(self, scores: Scores, draw: Callable[[], Masks]) -> dict[str, Finding]:
        found = expected_overlap(self.chosen(scores), draw, ENOUGH)
        self.simulated += 1
        self.task.progress(self.simulated, SIMULATIONS, "simulations of the exact mask")
        return found

    def _draws(
        self, estimate: Scores, spread: Spread, parts: int, again: bool = False
    ) -> Callable[[], Masks]:
        """Draws of masks of exact scores, or (`again`) of those of another sample of the size."""
        rng, masks, variance = self.task.rng, self.masks, spread.variance(parts)
        posteriors = {
            name: Posterior.of(s[masks[name]], variance[name][masks[name]], spread.count)
            for name, s in estimate.items()
        }

        def of(name: str, posterior: Posterior) -> Tensor:
            scores = posterior.draw(rng)
            if again:
                scores += posterior.error * torch.randn(scores.shape, generator=rng)
            empty = torch.zeros_like(estimate[name], dtype=torch.float64)
            return empty.masked_scatter(masks[name], scores.to(empty.device))

        return lambda: self.chosen({name: of(name, p) for name, p in posteriors.items()})
