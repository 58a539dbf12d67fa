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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from pruners.base import Batch, LossFn, Masks, Scores
from pruners.memory import SavedBytes, at_once
from pruners.scores.gradients import undisturbed

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
    ) -> Scores:
        """Score every prunable weight; same keys and shapes as `masks`, of type `dtype`, >= 0.

        The model is not changed. Labels, `loss` and `rng` are not used. Images of which more than
        `memory` bytes would be needed are scored in parts, whose flows add up.

        Raises:
            ValueError: `batches` is empty, or not even one image fits.
        """
        flow, _ = self._flow(model, masks, batches, memory)
        return self.ranked(flow, masks)

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
    ) -> Scores:
        """`pruners.selection.parts.Sampled`: |w| * dR/d|w| of an image; inputs have both signs."""
        flow, images = self._flow(model, masks, batches, memory)
        return {name: f / images for name, f in flow.items()}

    def _flow(
        self, model: nn.Module, masks: Masks, batches: Iterable[Batch], memory: float
    ) -> tuple[Scores, int]:
        """|w| * dR/d|w|, and the number of images."""
        tensors = absolute_tensors(
            model, masks, torch.float64 if self.dtype == "float64" else torch.float32
        )
        weights = {name: tensors[name].requires_grad_(True) for name in masks}
        flow: Scores = {}
        images = 0
        with undisturbed(model, "eval"):
            for x in _parts(model, tensors, self.read(batches), memory):
                images += len(x)
                total = _total_flow(model, tensors, x)
                grads = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
                flow = {
                    name: flow.get(name, 0) + grad
                    for name, grad in zip(weights, grads, strict=True)
                }
        if not flow:
            raise ValueError("SynFlow needs at least one input: the source is empty")
        return {name: weight.detach() * flow[name] for name, weight in weights.items()}, images


def _total_flow(model: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """R of the examples x, with `tensors` for parameters and buffers."""
    inputs = x.to(next(iter(tensors.values())))  # device and type
    return torch.as_tensor(functional_call(model, tensors, (inputs,)).sum())


def _parts(
    model: nn.Module, tensors: dict[str, Tensor], batches: Iterable[Batch], memory: float
) -> Iterator[Tensor]:
    """The examples of all batches, as many at a time as fit in `memory`."""

    def saved(x: Tensor, images: int) -> int:
        with SavedBytes(tensors.values()) as count:
            _total_flow(model, tensors, x[:images])
        return count.peak

    for x, _ in batches:
        yield from torch.split(x, at_once(len(x), memory, partial(saved, x)))


def absolute_tensors(model: nn.Module, masks: Masks, dtype: torch.dtype) -> dict[str, Tensor]:
    """Absolute values of all floating-point parameters and buffers by name, copied in `dtype`.

    Pruned weights and BatchNorm's running means are zero.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    tensors = {name: t.detach().to(dtype).abs() for name, t in named if t.is_floating_point()}
    for name, mask in masks.items():
        tensors[name].masked_fill_(~mask, 0.0)
    for name in tensors:
        if name.rpartition(".")[2] == "running_mean":
            tensors[name].zero_()
    return tensors
