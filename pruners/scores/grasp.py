"""GraSP: gradient signal preservation (Wang et al., 2020, arXiv:2002.07376, Eq. 8).

S = -w * Hg, where g is the gradient and H the Hessian of the loss at logits / temperature. The
paper prunes the weights with the largest S. A score here is w * Hg = -S: larger = keep. It is
signed: removing a weight with a negative score increases the gradient's norm.

Deviations and choices (docs/methods/grasp.md):
- g and Hg are computed on the same batches, as the authors do (Synaptic-Flow's port draws others
  for the second pass), as gradients of the mean over all their examples. The authors sum over
  chunks of equal size, which scales every score by the number of chunks squared.
- Statistics are those of a whole batch, in the order of the shuffled pass, also where memory
  requires chunks (pruners/scores/chunks.py). The authors sort by class and cut batches in halves,
  so that the batch statistics of each half lack the other classes; on ImageNet, they cut batches of
  250 in chunks of 20. `chunk` gives every chunk statistics of its own, as they do.
- Exact counts. The authors keep one weight more. Their division by |sum of S| cannot change a rank.
- BatchNorm uses batch statistics, on a copy (docs/decisions.md 19, the authors' mode). The port's
  default is `bn: eval`.
- `linear: xavier` redraws the linear layers of the scored copy, as the authors do because they
  initialise these with N(0, 0.01^2) (model.init=fan_out). Default as_is: with model.init=fan_in
  they have a scale of their own.
- The sketching paper does not specify how a signed score becomes a probability; `map` offers three
  ways. It is applied before allocate counts. `positive` preserves the counts of the global
  threshold where that is above zero; `shifted` and `absolute` change them.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from pruners.base import GRADIENT, PRODUCT, Batch, LossFn, Masks, Scores, apply_masks
from pruners.divided import largest_share, share, summed, whole_batch
from pruners.memory import at_once
from pruners.scores.chunks import LargeBatch, along_gradient, product_bytes
from pruners.scores.gradients import (
    BATCHNORM_MODES,
    chunk_problems,
    mean_gradients,
    normalised_together,
)
from pruners.team import ALONE, Team

Linear = Literal["as_is", "xavier"]
Map = Literal["signed", "positive", "shifted", "absolute"]


@dataclass(frozen=True)
class Grasp:
    """w * Hg, the negative of the paper's S.

    Args:
        batches: batches of the source, used for both g and Hg. Default 1: the authors' on CIFAR-10,
            with source=balanced's ten images of each class.
        temperature: divides the logits. Default 200: authors' code.
        bn: BatchNorm normalises with batch statistics (`train`) or running statistics (`eval`).
            Default train (docs/decisions.md 19).
        chunk: images that bn=train normalises together; None = all of a batch. The authors: half a
            batch; 20 of 250 on ImageNet.
        linear: score with the linear layers' weights (`as_is`), or with a Xavier normal draw
            instead (`xavier`: authors' code).
        map: `signed`; or non-negative for pick=proportional: `positive` max(0, .), `shifted` by the
            layer's minimum, `absolute`.
    """

    tag: ClassVar[str] = "grasp"
    batches: int = 1
    temperature: float = 200.0
    bn: Literal["train", "eval"] = "train"
    linear: Linear = "as_is"
    map: Map = "signed"
    chunk: int | None = None
    needs_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        choices = {"bn": BATCHNORM_MODES, "linear": get_args(Linear), "map": get_args(Map)}
        problems = [
            f"method.score.{key}={getattr(self, key)!r} must be one of {', '.join(among)}"
            for key, among in choices.items()
            if getattr(self, key) not in among
        ]
        if self.batches < 1:
            problems.append(
                f"method.score.batches={self.batches} must be at least 1: GraSP needs a gradient"
                " (conf/method/grasp.yaml)"
            )
        if not 0 < self.temperature < float("inf"):
            problems.append(
                f"method.score.temperature={self.temperature:g} must be positive: it divides the"
                " logits, 200 in the authors' code"
            )
        problems += chunk_problems(self.chunk, self.bn)
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
        """Score every prunable weight; same keys and shapes as `masks`.

        The model is not changed. `rng` is used only with linear=xavier. The batches are read
        twice, unless they are an iterator. `memory`: pruners/scores/gradients.py.

        Raises:
            ValueError: `batches` is empty.
        """
        return self.ranked(self.signed(model, masks, batches, loss, rng, memory, team), masks)

    def passes(self, images: int, classes: int) -> int:
        """`pruners.selection.score_pruner.StatesCost`: a gradient and a product with H."""
        return (GRADIENT + PRODUCT) * images

    @property
    def additive(self) -> bool:
        """`pruners.selection.parts.Sampled`: H and g are means over the same images."""
        return False

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
        """`pruners.selection.parts.Sampled`: w * Hg."""
        net = self._scored_net(model, masks, rng)
        if isinstance(batches, Iterator):
            batches = list(islice(batches, self.batches))
        data = _Read(batches, self.batches, self.chunk)

        def tempered(logits: Tensor, labels: Tensor) -> Tensor:
            return loss(logits / self.temperature, labels)

        gradients = mean_gradients(net, masks, data, tempered, self.bn, memory, team)
        products = hessian_gradient(
            net.train(self.bn == "train"), gradients, data, tempered, data.images, memory, team
        )
        return {
            name: net.get_parameter(name).detach() * product for name, product in products.items()
        }

    def ranked(self, signed: Scores, masks: Masks) -> Scores:
        """`pruners.selection.parts.Sampled`: the scores by `map`."""
        return {name: mapped(values, masks[name], self.map) for name, values in signed.items()}

    def _scored_net(self, model: nn.Module, masks: Masks, rng: Generator) -> nn.Module:
        """Contiguous copy of the model, with new linear weights if linear=xavier.

        In channels_last, the double backward of a convolution is a third slower (measured,
        docs/methods/imc.md).
        """
        net = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
        if self.linear == "xavier":
            for layer in (m for m in net.modules() if isinstance(m, nn.Linear)):
                draw = nn.init.xavier_normal_(torch.empty(layer.weight.shape), generator=rng)
                layer.weight.data.copy_(draw)
            apply_masks(net, masks)
        for name in masks:
            net.get_parameter(name).requires_grad_(True)
        return net


@dataclass
class _Read:
    """The first batches, contiguous and cut for their statistics; it counts their images.

    They are not kept: those of an ImageNet would fill 22 GB.
    """

    batches: Iterable[Batch]
    count: int
    chunk: int | None
    images: int = 0  # in the last pass

    def __iter__(self) -> Iterator[Batch]:
        self.images = 0
        for x, y in normalised_together(islice(self.batches, self.count), self.chunk):
            self.images += len(y)
            yield x.contiguous(), y


def hessian_gradient(
    net: nn.Module,
    gradients: Scores,
    batches: Iterable[Batch],
    loss: LossFn,
    examples: int,
    memory: float = inf,
    team: Team = ALONE,
) -> Scores:
    """H g by double backward, for the parameters that `gradients` names.

    H is the Hessian of the mean loss over all examples of `batches`; g is constant. In train mode,
    the running statistics of `net` change.

    Args:
        examples: their number.
        memory, team: as for `mean_gradients`.
    """
    parameters = [net.get_parameter(name) for name in gradients]
    g = list(gradients.values())
    total, fits = [torch.zeros_like(p) for p in parameters], 0  # images that are known to fit
    for x, y in batches:
        cost = partial(product_bytes, net, parameters, (x, y), loss)
        own = largest_share(team, len(y))
        if own > fits and at_once(own, memory, cost) < own:
            large = LargeBatch(net, parameters, (x, y), loss, memory, products=True, team=team)
            weight = len(y) / examples
            total = [t + p * weight for t, p in zip(total, large.product(g), strict=True)]
            continue
        fits = max(fits, own)
        with whole_batch(net, team):
            along = along_gradient(net, parameters, share(team, (x, y)), loss, g, examples)
            if along.requires_grad:  # a loss linear in every weight has no curvature
                products = list(torch.autograd.grad(along, parameters, materialize_grads=True))
                total = [t + p for t, p in zip(total, summed(team, products), strict=True)]
    return dict(zip(gradients, total, strict=True))


def mapped(values: Tensor, mask: Tensor, how: Map) -> Tensor:
    """Signed scores of a layer, transformed by the option `map`.

    The minimum is taken over the weights in `mask`.
    """
    if how == "positive":
        return values.clamp(min=0)
    if how == "absolute":
        return values.abs()
    if how == "shifted" and mask.any():
        return (values - values[mask].min()).masked_fill(~mask, 0.0)
    return values
