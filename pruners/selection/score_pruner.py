"""Score, then select: the pruner of every method that ranks weights.

Its five orthogonal options are fields (pruners/selection/score.py has what a score is).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, get_args, runtime_checkable

from torch import Tensor, nn

from pruners import dense_layers
from pruners.base import (
    Batch,
    FixedMasking,
    Masks,
    Scores,
    Task,
    apply_masks,
    count_prunable,
)
from pruners.dense_layers import LAYERS, unknown_layers, with_classifier, without
from pruners.selection.allocate import Allocation, Layer, check_counts
from pruners.selection.pick import Proportional, Sketch, Top
from pruners.selection.score import InRounds, Mapped, ReadsOn, Revives, Score, ScoreFn, cost
from pruners.selection.select import Pick, select
from pruners.selection.source import Counted, Examples, Train
from pruners.selection.structured import Structured

When = Literal["each", "final", "oneshot"]
Classifier = Literal["pruned", "dense"]


@runtime_checkable
class CountsWeights(Protocol):
    """A schedule whose densities depend on the number of prunable weights."""

    def for_weights(self, density: float, prunable: int) -> list[float]: ...


@dataclass(frozen=True)
class ScorePruner:
    """score -> allocate -> pick, once for each density of the schedule.

    Final: configure this class, never subclass it.

    Args:
        score: larger = keep (pruners/scores/magnitude.py, pruners/scores/snip.py, ...).
        source: (task) -> batches for the score; None for scores that need no data.
        allocate: (scores, masks, density) -> weights to keep in each layer.
        pick: (scores (n,), k, rng) -> bool (n,) with exactly k True, or another result that `Pick`
            allows. A `Structured` pick gets the layer's shape.
        schedule: density -> decreasing densities that end at it.
        when: when a random pick draws: in `each` round (docs/decisions.md 21); in the `final` round
            only, with the top kept before; or in `oneshot`, which scores and draws once for
            any schedule. With a schedule of one round, only `each` is valid.
        classifier: `dense`: the last linear layer is neither pruned nor counted, so that a density
            is that of the other layers, as in the jackpots paper (docs/decisions.md 2). `pruned`:
            it is treated like the other layers.
        dense: other layers that are neither pruned nor counted: `first`, the first conv or linear
            layer; `shortcuts`, the convolutions on shortcuts (pruners/dense_layers.py).
    """

    tag: ClassVar[str] = "score_pruner"
    score: Score
    source: Callable[[Task], Iterable[Batch]] | None
    allocate: Allocation
    pick: Pick
    schedule: Callable[[float], list[float]]
    when: When = "each"
    classifier: Classifier = "pruned"
    dense: tuple[dense_layers.Layer, ...] = ()

    def __post_init__(self) -> None:
        problems = [
            f"{group}=none: this method selects weights by score and requires it; leave"
            f" {group}=... out, or take {group}={default}"
            for group, default in (("allocate", "global"), ("pick", "top"), ("schedule", "once"))
            if getattr(self, group) is None
        ]
        if self.score is None:
            raise ValueError("method.pruner.score=None: this method ranks weights by a score")
        problems += self._check_source()
        if self.classifier not in get_args(Classifier):
            problems.append(
                f"method.pruner.classifier={self.classifier!r} must be one of"
                f" {', '.join(get_args(Classifier))}"
            )
        problems += unknown_layers(self.dense, LAYERS[:2], "method.pruner.dense")
        problems += [*self._check_when(), *self._check_structure()]
        if problems:
            raise ValueError("\n".join(problems))

    def _check_source(self) -> list[str]:
        problems = []
        if self.source is None and self.score.needs_data:
            problems.append(
                f"source=none: {type(self.score).__name__} is computed from data; leave source=..."
                " out for the method's own, or take source=train"
            )
        signed = isinstance(self.score, Mapped) and self.score.map == "signed"
        if signed and isinstance(self.pick, (Proportional, Sketch)):
            pick, score = type(self.pick).__name__.lower(), type(self.score).__name__
            problems.append(
                f"pick={pick} uses scores as probabilities, but {score}'s have both signs: add"
                " method.score.map=positive, or take pick=top"
            )
        needs_labels = getattr(self.score, "needs_labels", self.score.needs_data)
        if needs_labels and not getattr(self.source, "labelled", True):
            source, score = type(self.source).__name__.lower(), type(self.score).__name__
            problems.append(
                f"source={source} is one image without a label, but {score} reads labels: take"
                " source=train, normal or sparse_normal"
            )
        if getattr(self.source, "fresh", False):
            problems.append(
                "source.fresh=true: it is for trainings on noise, and a score draws new noise in"
                " each round anyway; leave it out"
            )
        return problems

    def _check_when(self) -> list[str]:
        if self.when not in get_args(When):
            return [f"method.pruner.when={self.when!r} must be one of {', '.join(get_args(When))}"]
        if self.when == "each" or self.pick is None or self.schedule is None:
            return []
        problems = []
        if not self.pick.draws:
            problems.append(
                f"method.pruner.when={self.when}: pick={self.pick.tag} draws nothing; leave it out,"
                " or take a random pick, e.g. pick=proportional"
            )
        if len(self.schedule(0.5)) == 1:
            problems.append(
                f"method.pruner.when={self.when}: the schedule has one round, so all are the same;"
                " leave it out, or take a schedule of many rounds"
            )
        return problems

    def _check_structure(self) -> list[str]:
        if not isinstance(self.pick, Structured) or not self.pick.even:
            return []
        if self.allocate is None or isinstance(self.allocate, Layer):
            return []
        return [
            f"pick={self.pick.tag} keeps the same share of every layer, but"
            f" allocate={self.allocate.tag} does not: add allocate=layer"
        ]

    def check_target(self, density: float) -> None:
        """`pruners.declared.Targeted.check_target`."""
        if isinstance(self.pick, Structured):
            self.pick.check_target(density)

    def check_budget(self, model: nn.Module, masks: Masks, density: float) -> None:
        """`pruners.base.Budgeted.check_budget`."""
        if masks := self.pruned(model, masks):
            if isinstance(self.pick, Structured):
                self.pick.check_shapes({name: mask.shape for name, mask in masks.items()})
            check_counts(self.allocate, masks, density)

    def check_images(self, counts: Tensor, accepts_one: Callable[[], bool]) -> None:
        """`pruners.base.ReadsImages`: the last batch of training images may have one image."""
        images = int(counts.sum())
        if not isinstance(self.source, Train) or images % self.source.batch_size != 1:
            return
        size = self.source.batch_size
        batches, bn = (getattr(self.score, name, None) for name in ("batches", "bn"))
        if batches and isinstance(self.score, ReadsOn) and self.score.reads_on:
            batches *= len(self.schedule(0.5))
        if bn == "train" and batches and batches * size > images and not accepts_one():
            raise ValueError(
                f"method.score.batches={batches} with source.batch_size={size}: the last of these"
                f" batches of {images:,} training images has one image, which BatchNorm cannot"
                " normalise where the network's maps have one pixel; take another"
                " source.batch_size or train_fraction, or method.score.bn=eval"
            )

    @property
    def exact(self) -> bool:
        """Whether the density is reached to the weight (pruners.base.Approximate)."""
        return self.pick.exact and self.allocate.exact

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> FixedMasking:
        """Prune to masks of exactly round(task.density * prunable) weights, all inside `masks`.

        Only the masks of layers to prune are returned. The pruned weights of `model` become zeros.
        With a pick that is not exact, the number of weights is near it, or an expectation.

        Raises:
            ValueError: there is no density, it cannot be reached from `masks`, there is no layer to
                prune, or the pick rejects the scores.
            FloatingPointError: a score is NaN or infinite.
        """
        if task.density is None:
            raise ValueError(
                "density is missing: a method that ranks weights prunes to the density that you"
                " give, e.g. density=0.1 keeps a tenth"
            )
        masks = self.pruned(model, masks)
        if not masks:
            raise ValueError(self._nothing_to_prune())
        densities = self._densities(task.density, count_prunable(masks))
        first = masking = FixedMasking(masks)
        score: ScoreFn = self.score
        if isinstance(self.score, InRounds):
            score = self.score.for_rounds(model, masks)
        for done, goal in enumerate(densities, start=1):
            draws = self.when != "final" or done == len(densities)
            pick = self.pick if draws else Top()
            this_round = replace(task, density=goal, round=done - 1)
            scores = self._scores(score, model, masking.masks, this_round)
            before = first if isinstance(self.score, Revives) and self.score.revives else masking
            masking = select(scores, before, goal, self.allocate, pick, task.rng)
            if score is self.score or done == len(densities):  # `for_rounds` reads the masks
                apply_masks(model, masking.masks)
            if len(densities) > 1:
                task.progress(done, len(densities), "pruning rounds")
        masking.masks = {name: mask.contiguous() for name, mask in masking.masks.items()}
        return masking

    def _nothing_to_prune(self) -> str:
        others = f" with method.pruner.dense=[{','.join(self.dense)}]" if self.dense else ""
        return (
            f"method.pruner.classifier={self.classifier}{others} leaves no layer to prune: this"
            " net has too few; take method.pruner.classifier=pruned or fewer dense layers"
        )

    def pruned(self, model: nn.Module, masks: Masks) -> Masks:
        """The masks of the layers to prune."""
        return without(model, masks, with_classifier(self.dense, self.classifier))

    def _densities(self, density: float, prunable: int) -> list[float]:
        """The density of each round."""
        if isinstance(self.schedule, CountsWeights):
            densities = self.schedule.for_weights(density, prunable)
        else:
            densities = self.schedule(density)
        return densities[-1:] if self.when == "oneshot" else densities

    def _scores(self, score: ScoreFn, model: nn.Module, masks: Masks, task: Task) -> Scores:
        """The scores of one round, whose cost is added to the task's."""
        examples = Counted(Examples(self.source, task, next(model.parameters()).device))
        scores = score(model, masks, examples, task.loss, task.rng, task.memory, task.team)
        task.spend(masks, cost(self.score, examples.images, task.classes), 1)
        return scores
