"""Score, then select: the pruner behind every method that ranks weights, with its five orthogonal options as fields (style.md, section 2).

A score is `(model, masks, batches, loss, rng) -> Scores` and leaves the model bit-identical; `rng` is the stage's stream, for scores that are themselves
random.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from pruners.base import Batch, FixedMasking, LossFn, Masks, Scores, Task, apply_masks


class Score(Protocol):
    """How much each weight is worth."""

    @property
    def needs_data(self) -> bool: ...  # False: `batches` is empty

    def __call__(self, model: nn.Module, masks: Masks, batches: Iterable[Batch], loss: LossFn, rng: Generator) -> Scores: ...


@dataclass(frozen=True)
class ScorePruner:
    """score -> allocate -> pick, once for each density of the schedule. Final: configure it, never subclass it.

    Args:
        score: larger = keep (pruners/magnitude.py, pruners/snip.py, ...).
        source: (task) -> batches that the score sees; None for scores that need no data.
        allocate: (scores, masks, density) -> weights to keep in each layer, exact in total.
        pick: (scores (n,), k, rng) -> bool (n,) with exactly k True.
        schedule: density -> densities on the way down, the last one being it.
    """

    score: Score
    source: Callable[[Task], Iterable[Batch]] | None
    allocate: Callable[[Scores, Masks, float], dict[str, int]]
    pick: Callable[[Tensor, int, Generator], Tensor]
    schedule: Callable[[float], list[float]]

    def __post_init__(self) -> None:
        problems = [
            f"{group}=none: this method selects weights by score and cannot do without; leave {group}=... out, or take {group}={default}"
            for group, default in (("allocate", "global"), ("pick", "top"), ("schedule", "once"))
            if getattr(self, group) is None
        ]
        if self.source is None and self.score.needs_data:
            problems.append(f"source=none: {type(self.score).__name__} is computed from data; leave source=... out, or take source=train")
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> FixedMasking:
        """Masks of exactly round(task.density * prunable) weights, all inside `masks`; the pruned weights of `model` are zeros.

        Raises:
            ValueError: no density, or one that cannot be reached from `masks`.
            FloatingPointError: a score is NaN or infinite.
        """
        if task.density is None:
            raise ValueError("density is missing: a method that ranks weights prunes to the density that you give, e.g. density=0.1 keeps a tenth")
        densities = self.schedule(task.density)
        for done, density in enumerate(densities, start=1):
            masks = self._select(model, masks, task, density)
            apply_masks(model, masks)
            if len(densities) > 1:
                task.tick(done, len(densities), "pruning rounds")
        return FixedMasking(masks)

    def _select(self, model: nn.Module, masks: Masks, task: Task, density: float) -> Masks:
        batches = self.source(task) if self.source else ()
        scores = self.score(model, masks, batches, task.loss, task.rng)
        _refuse_overflow(scores, type(self.score).__name__)
        scores = {name: s.masked_fill(~masks[name], -torch.inf) for name, s in scores.items()}  # pruned stays pruned
        keep = self.allocate(scores, masks, density)
        return {name: self.pick(s.flatten(), keep[name], task.rng).view_as(s) for name, s in scores.items()}


def _refuse_overflow(scores: Scores, what: str) -> None:
    """NaN compares as false with everything, so that a threshold would keep or drop it by accident; an infinite score has no rank among others.

    Raises:
        FloatingPointError: naming the first layer that is not finite.
    """
    for name, values in scores.items():
        bad = values.numel() - int(values.isfinite().sum())
        if bad:
            raise FloatingPointError(f"{bad:,} of {values.numel():,} {what} scores of {name} are NaN or infinite: the weights or the gradients have overflowed")
