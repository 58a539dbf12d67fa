"""SNIP: single-shot pruning by connection sensitivity (Lee et al., 2019, arXiv:1810.02340).

s_j = |dL(m * w; B) / dm_j| at m = 1, which is |w_j * dL/dw_j|: no mask tensor is needed (g_j as in
arXiv:2305.17559, Sec. 6).

Deviations and choices (docs/methods/snip.md):
- The paper divides by the sum of the scores. This cannot change a rank and is omitted.
- Only weights of conv and linear layers are scored. snip-public also scores biases, which start at
  zero and are therefore all pruned.
- The scored weights are the ones trained afterwards; snip-public trains another draw.
- BatchNorm uses batch statistics while scoring, on a copy of its state (docs/decisions.md 19;
  sanity-check's port). snip-public and Synaptic-Flow's port score in inference mode with untrained
  statistics, where BatchNorm has no effect: `bn: eval`.
- Several batches: the gradient of the mean over all their examples. The ports sum batch means, so
  that a short last batch weighs as much as a full one.
- Pruning batches are not augmented, as in snip-public; the ports augment.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import ClassVar, Literal

from torch import Generator, nn

from pruners.base import GRADIENT, Batch, LossFn, Masks, Scores
from pruners.scores.gradients import (
    BATCHNORM_MODES,
    chunk_problems,
    mean_gradients,
    normalised_together,
)
from pruners.team import ALONE, Team


def sample_problems(batches: int, bn: str, chunk: int | None) -> list[str]:
    """Messages about invalid options for the images of a connection sensitivity."""
    problems = []
    if batches < 1:
        problems.append(
            f"method.score.batches={batches} must be at least 1: SNIP needs a gradient"
            " (conf/method/snip.yaml)"
        )
    if bn not in BATCHNORM_MODES:
        problems.append(f"method.score.bn={bn!r} must be one of {', '.join(BATCHNORM_MODES)}")
    return problems + chunk_problems(chunk, bn)


@dataclass(frozen=True)
class Snip:
    """Connection sensitivity |dL/dm| at m = 1, which equals |w * dL/dw|.

    Args:
        batches: mini-batches to average over. Default 1, the authors' setting.
        bn: BatchNorm normalises with batch statistics (`train`) or running statistics (`eval`).
            Default train (docs/decisions.md 19); the authors' is eval.
        chunk: images that bn=train normalises together; None = all of a batch.
    """

    tag: ClassVar[str] = "snip"
    batches: int = 1
    bn: Literal["train", "eval"] = "train"
    chunk: int | None = None
    needs_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        problems = sample_problems(self.batches, self.bn, self.chunk)
        if problems:
            raise ValueError("\n".join(problems))

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
        return self.ranked(self.signed(model, masks, batches, loss, rng, memory, team), masks)

    def passes(self, images: int, classes: int) -> int:
        """`pruners.selection.score_pruner.StatesCost`: a gradient of each image."""
        return GRADIENT * images

    @property
    def additive(self) -> bool:
        """`pruners.selection.parts.Sampled`: batch statistics depend on all of a batch."""
        return self.bn == "eval"

    @property
    def positive(self) -> bool:
        """`pruners.selection.parts.Sampled`."""
        return False

    def read(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """`pruners.selection.parts.Sampled`."""
        return islice(batches, self.batches)

    def signed(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """`pruners.selection.parts.Sampled`: w * dL/dw."""
        parts = normalised_together(self.read(batches), self.chunk)
        # dict, shapes of `masks`
        grads = mean_gradients(model, masks, parts, loss, self.bn, memory, team)
        return {name: model.get_parameter(name).detach() * grad for name, grad in grads.items()}

    def ranked(self, signed: Scores, masks: Masks) -> Scores:
        """`pruners.selection.parts.Sampled`: absolute values."""
        return {name: s.abs() for name, s in signed.items()}
