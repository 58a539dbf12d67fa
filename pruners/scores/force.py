"""FORCE and iterative SNIP: connection sensitivity of the pruned net, in rounds (2021).

SNIP's scores are those of the dense net. Pau de Jorge et al. ("Progressive Skeletonization:
Trimming more fat from a network at initialization", arXiv:2006.09081) compute them anew in each of
T rounds at the net that the rounds before have left, theta_bar = c * theta with the mask c:

    s_j = |theta_j * dL/dtheta_bar_j|.

The density of round t is d^(t / T) (schedule=exponential). In FORCE all weights are ranked in every
round by their initial values, so that a weight pruned before may be kept again; the last round
alone decides. In iterative SNIP pruned weights stay pruned.

Choices and deviations (docs/methods/force.md):
- A round of density d keeps round(d N) weights; the authors' code keeps int(d N), and ties.
- Each round reads the next `batches` of one pass over the images; a pass that ends begins again.
  The authors shuffle the images for every batch.
- BatchNorm, chunks of a batch and its augmentation are as for SNIP (pruners/scores/snip.py).
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

import torch
from torch import Generator, nn

from pruners.base import Batch, LossFn, Masks, Scores, clear_
from pruners.scores.gradients import mean_gradients, normalised_together
from pruners.scores.snip import sample_problems
from pruners.team import ALONE, Team


@dataclass(frozen=True)
class Force:
    """|theta * dL/dtheta_bar| at the net of the current round.

    Args:
        revive: whether weights that an earlier round has pruned may be kept again: FORCE. False:
            iterative SNIP.
        batches: mini-batches to average over in each round. Default 1: the authors' code.
        bn: BatchNorm normalises with batch statistics (`train`) or running statistics (`eval`).
            Default train: the authors' code scores in training mode.
        chunk: images that bn=train normalises together; None = all of a batch.
    """

    tag: ClassVar[str] = "force"
    revive: bool = True
    batches: int = 1
    bn: Literal["train", "eval"] = "train"
    chunk: int | None = None
    needs_data: ClassVar[bool] = True
    reads_on: ClassVar[bool] = True  # pruners.selection.score_pruner.ReadsOn

    def __post_init__(self) -> None:
        if problems := sample_problems(self.batches, self.bn, self.chunk):
            raise ValueError("\n".join(problems))

    @property
    def revives(self) -> bool:
        """`pruners.selection.score_pruner.Revives`."""
        return self.revive

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """Score every prunable weight; same keys and shapes as `masks`, no unit, >= 0.

        The model is not changed. `rng` is not used. `memory`: pruners/scores/gradients.py.
        """
        return self.for_rounds(model, masks)(model, masks, batches, loss, rng, memory, team)

    def for_rounds(self, model: nn.Module, masks: Masks) -> "MaskedNet":
        """The same score for the rounds of a pruning (pruners.selection.score_pruner.InRounds)."""
        return MaskedNet(self, model)


class MaskedNet:
    """A copy of a net, which is masked anew in every round.

    Args:
        score: the options.
        model: the net; it is not changed.
    """

    def __init__(self, score: Force, model: nn.Module) -> None:
        self._score = score
        self._net = copy.deepcopy(model)
        self._pass: Iterator[Batch] = iter(())

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """`Force.__call__` at `model` with `masks`, on the next batches of the pass."""
        with torch.no_grad():
            for name, mask in masks.items():
                weight = self._net.get_parameter(name)
                weight.copy_(model.get_parameter(name))
                clear_(weight, mask)
        parts = normalised_together(self._next(batches), self._score.chunk)
        grads = mean_gradients(self._net, masks, parts, loss, self._score.bn, memory, team)
        return {n: (model.get_parameter(n).detach() * grad).abs() for n, grad in grads.items()}

    def _next(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The next batches of the pass, which begins again when it ends."""
        for _ in range(self._score.batches):
            batch = next(self._pass, None)
            if batch is None:
                self._pass = iter(batches)
                batch = next(self._pass, None)
            if batch is None:
                return
            yield batch
