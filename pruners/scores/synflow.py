"""SynFlow: iterative synaptic flow pruning (Tanaka et al., 2020, arXiv:2006.05467).

R = sum over the outputs of f(x; |w| * m) for an input of ones. s_j = |w_j * dR/dw_j| in the net of
absolute values is the flow through weight j. Scores are recomputed after each of many small
prunings (schedule=exponential), which keeps a path from the input to the output open.

Deviations and choices (docs/methods/synflow.md):
- float64 (docs/decisions.md 20). The authors' float32 overflows on deep or wide nets: R is 1e45 on
  a ResNet-32 of width 32, and the maximum of float32 is 3e38.
- Exact counts with ties by index. The authors prune ties at the threshold and accept a count that
  is off by up to 5.
- BatchNorm runs in eval mode with the absolute values of scale and shift, but with a running mean
  of zero, which it is on an untrained net. The authors take its absolute value. On a trained net
  (start=dense), this subtracts a positive constant, silences units and breaks the conservation of
  the flow.
- Sources other than ones: R is the sum over all examples of `batches` mini-batches, and the inputs
  keep their signs.
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

from pruners.base import GRADIENT, Batch, LossFn, Masks, Scores, clear_
from pruners.divided import share, summed
from pruners.memory import SavedBytes, at_once, tensors_of
from pruners.selection.ranked import Layout
from pruners.team import ALONE, Team

Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class SynFlow:
    """Synaptic flow |w * dR/dw| through the net of absolute values.

    Args:
        batches: mini-batches to sum over. Default 1: source=ones has one batch of one image.
        dtype: of R and its gradients. Default float64 (docs/decisions.md 20); the authors' is
            float32.
    """

    tag: ClassVar[str] = "synflow"
    batches: int = 1
    dtype: Precision = "float64"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        problems = []
        if self.batches < 1:
            problems.append(
                f"method.score.batches={self.batches} must be at least 1: SynFlow needs an input"
                " (conf/method/synflow.yaml)"
            )
        if self.dtype not in get_args(Precision):
            problems.append(
                f"method.score.dtype={self.dtype!r} must be one of {', '.join(get_args(Precision))}"
            )
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
        """Score every prunable weight; same keys and shapes as `masks`, of type `dtype`, >= 0.

        The model is not changed. Labels, `loss` and `rng` are not used. Images of which more than
        `memory` bytes would be needed are scored in parts, whose flows add up.

        Raises:
            ValueError: `batches` is empty, or not even one image fits.
        """
        return self.for_rounds(model, masks)(model, masks, batches, loss, rng, memory, team)

    def for_rounds(self, model: nn.Module, masks: Masks) -> "AbsoluteNet":
        """The same score for rounds of a pruning that begins with `masks`."""
        dtype = torch.float64 if self.dtype == "float64" else torch.float32
        return AbsoluteNet(model, masks, dtype, self.batches)

    def passes(self, images: int, classes: int) -> int:
        """`pruners.selection.score_pruner.StatesCost`: a gradient of R for each input."""
        return GRADIENT * images

    @property
    def additive(self) -> bool:
        """`pruners.selection.parts.Sampled`."""
        return True

    @property
    def positive(self) -> bool:
        """`pruners.selection.parts.Sampled`."""
        return False

    def read(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """`pruners.selection.parts.Sampled`."""
        return islice(batches, self.batches)

    def ranked(self, signed: Scores, masks: Masks) -> Scores:
        """`pruners.selection.parts.Sampled`: absolute values."""
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
        """`pruners.selection.parts.Sampled`: |w| * dR/d|w| of an image; inputs have both signs."""
        net = self.for_rounds(model, masks)
        flow, images = net.flow(masks, batches, memory)
        return {name: score / images for name, score in flow.items()}


class AbsoluteNet:
    """SynFlow's scores of a net that loses weights from call to call.

    It is a copy of the net with absolute values. BatchNorm's running means are zero.

    Args:
        model: the net; it is not changed.
        masks: of the layers to score. The masks of later calls lie inside those of earlier ones.
        dtype: of the copy.
        batches: mini-batches to sum over.
    """

    def __init__(self, model: nn.Module, masks: Masks, dtype: torch.dtype, batches: int) -> None:
        self._net = copy.deepcopy(model).to(dtype).eval().requires_grad_(False)
        weights = {name: self._net.get_parameter(name) for name in masks}
        self._batches = batches
        self._fits = 0  # examples that are known to fit in the memory
        with torch.no_grad():
            for tensor in tensors_of(self._net):
                tensor.data = tensor.abs()  # with its strides: convolutions sum in their order
            for name, buffer in self._net.named_buffers():
                if name.rpartition(".")[2] == "running_mean":
                    buffer.zero_()
            self._layout = Layout.of(weights)
            self._vector = self._layout.join(weights)
            for name, part in self._layout.split(self._vector).items():
                weights[name].data = part
        self._weights = [weight.requires_grad_(True) for weight in weights.values()]
        for weight in self._weights:
            weight.grad = None

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
        """`SynFlow.__call__`; `model` is not read."""
        flow, _ = self._flow(masks, batches, memory, team)
        return self._layout.split(flow.abs_())

    def flow(
        self, masks: Masks, batches: Iterable[Batch], memory: float, team: Team = ALONE
    ) -> tuple[Scores, int]:
        """|w| * dR/d|w|, summed over the examples, and their number.

        Raises:
            ValueError: as `SynFlow.__call__`.
        """
        flow, images = self._flow(masks, batches, memory, team)
        return self._layout.split(flow), images

    def _flow(
        self, masks: Masks, batches: Iterable[Batch], memory: float, team: Team
    ) -> tuple[Tensor, int]:
        """`flow` of all layers in one vector."""
        clear_(self._vector, self._layout.join(masks))
        chosen = list(islice(batches, self._batches))
        images = sum(len(x) for x, _ in chosen)
        if not images:
            raise ValueError("SynFlow needs at least one input: the source is empty")
        flow: Tensor | None = None
        for x in self._parts((share(team, batch)[0] for batch in chosen), memory):
            grads = torch.autograd.grad(self._total(x), self._weights, materialize_grads=True)
            part = self._layout.join(dict(zip(self._layout.shapes, grads, strict=True)))
            flow = part if flow is None else flow.add_(part)
        (flow,) = summed(team, [torch.zeros_like(self._vector) if flow is None else flow])
        return flow.mul_(self._vector), images

    def _total(self, x: Tensor) -> Tensor:
        """R of the examples x."""
        inputs = x.to(next(self._net.parameters()))  # device and type
        return torch.as_tensor(self._net(inputs).sum())

    def _parts(self, inputs: Iterable[Tensor], memory: float) -> Iterator[Tensor]:
        """The examples of all inputs, as many at a time as fit in `memory`."""
        for x in (x for x in inputs if len(x)):
            size = (
                len(x) if len(x) <= self._fits else at_once(len(x), memory, partial(self._saved, x))
            )
            self._fits = max(self._fits, size)
            yield from torch.split(x, size)

    def _saved(self, x: Tensor, images: int) -> int:
        """Bytes that the graph of the first examples of x holds."""
        with SavedBytes(tensors_of(self._net)) as count:
            self._total(x[:images])
        return count.peak
