"""Flow&Prune's measures of importance that read gradients (Lubana & Dick, 2021, arXiv:2009.11839).

With weights w, the gradient g of the mean loss on logits / T, and its Hessian H, a weight scores

    loss            |w g|           first-order change of the loss
    biased_loss     |w| |w g|       the same, weighted by the magnitude
    grasp           w (H g)         signed: pruning low scores raises the norm of the gradient
    grad_preserve   |w (H g)|       change of the norm of the gradient

Deviations (docs/methods/flow_prune.md): the authors score whole filters, by sums over their
weights; these are the same terms for single weights. Their images are augmented; ours are not. As
in their code, BatchNorm normalises with its running statistics.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import ClassVar, Literal, get_args

from torch import Generator, Tensor, nn

from pruners.base import GRADIENT, PRODUCT, Batch, LossFn, Masks, Scores
from pruners.scores.gradients import mean_gradients, undisturbed
from pruners.scores.grasp import hessian_gradient
from pruners.team import ALONE, Team

Measure = Literal["loss", "biased_loss", "grasp", "grad_preserve"]


@dataclass(frozen=True)
class FlowMeasure:
    """A measure of importance of single weights.

    Args:
        measure: see above.
        batches: mini-batches of the source to average over; the authors have 2,560 images.
        temperature: T; the authors have 5 for `loss` and `biased_loss`, 200 for `grasp` and 1 for
            `grad_preserve`.
    """

    tag: ClassVar[str] = "flow_measure"
    measure: Measure
    batches: int
    temperature: float
    needs_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        problems = []
        if self.measure not in get_args(Measure):
            problems.append(
                f"method.score.measure={self.measure!r} must be one of"
                f" {', '.join(get_args(Measure))}"
            )
        if self.batches < 1:
            problems.append(
                f"method.measures.{self.measure}.score.batches={self.batches} must be at least 1: a"
                " gradient needs images"
            )
        if not self.temperature > 0:
            problems.append(
                f"method.measures.{self.measure}.score.temperature={self.temperature:g} must be"
                " positive: it divides the logits"
            )
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def map(self) -> str:
        """`signed` if scores have both signs (pruners.selection.score_pruner.Mapped)."""
        return "signed" if self.measure == "grasp" else "absolute"

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
        """Score every prunable weight; same keys and shapes as `masks`.

        The model is not changed. `rng` is not used. `memory`: pruners/scores/gradients.py.

        Raises:
            ValueError: `batches` is empty.
        """
        return self.ranked(self.signed(model, masks, batches, loss, rng, memory, team), masks)

    def passes(self, images: int, classes: int) -> int:
        """`pruners.selection.score_pruner.StatesCost`: a gradient, and a product with H if read."""
        return (GRADIENT if self.additive else GRADIENT + PRODUCT) * images

    @property
    def additive(self) -> bool:
        """`pruners.selection.parts.Sampled`: H and g are means over the same images."""
        return self.measure in ("loss", "biased_loss")

    @property
    def positive(self) -> bool:
        """`pruners.selection.parts.Sampled`."""
        return False

    def read(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """`pruners.selection.parts.Sampled`."""
        return islice(batches, self.batches)

    def ranked(self, signed: Scores, masks: Masks) -> Scores:
        """`pruners.selection.parts.Sampled`: absolute values, but of `grasp`."""
        if self.measure == "grasp":
            return signed
        return {name: s.abs() for name, s in signed.items()}

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
        """`pruners.selection.parts.Sampled`: w g, |w| w g, or w (H g)."""
        data = list(self.read(batches))

        def tempered(logits: Tensor, labels: Tensor) -> Tensor:
            return loss(logits / self.temperature, labels)

        along = mean_gradients(model, masks, data, tempered, "eval", memory, team)
        if not self.additive:
            with undisturbed(model, "eval"):
                for name in masks:
                    model.get_parameter(name).requires_grad_(True)
                images = sum(len(y) for _, y in data)
                along = hessian_gradient(model, along, data, tempered, images, memory)
        weights = {name: model.get_parameter(name).detach() for name in masks}
        scores = {name: weights[name] * along[name] for name in masks}
        if self.measure == "biased_loss":
            return {name: weights[name].abs() * s for name, s in scores.items()}
        return scores
